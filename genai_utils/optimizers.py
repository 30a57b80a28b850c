"""Optimizers: the players' behind the face of one, and an average that warms up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

__all__ = ["AveragingAdam", "PlayerOptimizers", "one_for_each"]


def _inner(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer itself, out of the wrapper that scales its loss."""
    return getattr(optimizer, "inner_optimizer", optimizer)


@keras.saving.register_keras_serializable("genai_utils")
class PlayerOptimizers(keras.optimizers.Optimizer):
    """The players' optimizers behind the face of one, which is what Keras expects.

    Reading ``learning_rate`` gives the first player's; setting it multiplies every
    player's by the same factor, so that their ratios stay.  ``iterations`` counts
    rounds.  Averages of weights are those of the players that keep any.

    Args:
        players: Maps each player's name to its optimizer.
        name: Name of the optimizer.
    """

    def __init__(
        self, players: Mapping[str, keras.optimizers.Optimizer], name: str = "players"
    ) -> None:
        super().__init__(learning_rate=1.0, name=name)
        self.players = dict(players)
        self.use_ema = any(_inner(o).use_ema for o in self.players.values())

    @property
    def variables(self) -> list[keras.Variable]:
        """All variables of all players' optimizers, in order."""
        return [
            *super().variables,
            *(v for o in self.players.values() for v in o.variables),
        ]

    @property
    def learning_rate(self) -> Any:
        """The first player's learning rate."""
        return next(iter(self.players.values())).learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        fixed = [
            name
            for name, optimizer in self.players.items()
            if not isinstance(_inner(optimizer)._learning_rate, keras.Variable)
        ]
        if fixed or callable(value):
            raise TypeError(
                "`learning_rate` of several players can be set to a number, where "
                f"each has a number. Received: {value!r}; {fixed or 'no one'} with a "
                "schedule. Give each player its own schedule in `compile`."
            )
        rates = [
            float(ops.convert_to_numpy(o.learning_rate)) for o in self.players.values()
        ]
        if rates[0] > 0:  # at zero the ratios are remembered from before
            self._ratios = [rate / rates[0] for rate in rates]
        ratios = getattr(self, "_ratios", [1.0] * len(rates))
        for optimizer, ratio in zip(self.players.values(), ratios, strict=True):
            optimizer.learning_rate = float(value) * ratio

    @property
    def _averaging(self) -> list[keras.optimizers.Optimizer]:
        inner = map(_inner, self.players.values())
        return [o for o in inner if o.use_ema]

    @property
    def _model_variables_moving_average(self) -> list[keras.Variable]:
        """The averages, in the order of ``_trainable_variables`` (SwapEMAWeights)."""
        return [v for o in self._averaging for v in o._model_variables_moving_average]

    @property
    def _trainable_variables(self) -> list[keras.Variable]:
        return [v for o in self._averaging for v in o._trainable_variables]

    @_trainable_variables.setter
    def _trainable_variables(self, value: list) -> None:
        """Keras sets it; what the players' optimizers hold counts."""

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Do nothing: ``Game.compile`` builds each optimizer for its player."""
        self.built = True

    def finalize_variable_values(self, var_list: Sequence[keras.Variable]) -> None:
        """After ``fit``, let optimizers that average weights write the averages."""
        for optimizer in self._averaging:
            optimizer.finalize_variable_values(optimizer._trainable_variables)
            for average in optimizer._model_variables_moving_average:
                average.assign(ops.copy(average))  # JAX: no buffer for two variables

    def get_config(self) -> dict:
        """Return the players' optimizers in a form that can be saved."""
        return {
            "name": self.name,
            "players": {
                name: keras.saving.serialize_keras_object(optimizer)
                for name, optimizer in self.players.items()
            },
        }

    @classmethod
    def from_config(cls, config: dict, custom_objects: Any = None) -> PlayerOptimizers:
        """Make the optimizers from :meth:`get_config`."""
        players = {
            name: keras.saving.deserialize_keras_object(part, custom_objects)
            for name, part in config["players"].items()
        }
        return cls(players, config["name"])


@keras.saving.register_keras_serializable("genai_utils")
class AveragingAdam(keras.optimizers.Adam):
    r"""Adam with an average of the weights whose memory grows with the steps done.

    .. math:: \bar w_t = m_t \bar w_{t-1} + (1-m_t) w_t, \quad
        m_t = \min\left(m, \tfrac{1+t}{10+t}\right)

    An average over a fixed 500 steps has hardly begun after 400; this one is of use
    from the first hundred on.

    Args:
        learning_rate: As in Adam.
        beta_1: As in Adam.
        beta_2: As in Adam.
        memory: The limit :math:`m`, from 0 to 1.
        **kwargs: Those of ``keras.optimizers.Adam``.

    Reference:
        The same warm-up is in ``tf.train.ExponentialMovingAverage`` (``num_updates``).
    """

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        *,
        memory: float = 0.998,
        **kwargs: Any,
    ) -> None:
        kwargs |= {"use_ema": True, "ema_momentum": memory}  # sets `memory`
        super().__init__(learning_rate, beta_1, beta_2, **kwargs)

    @property
    def ema_momentum(self) -> Any:
        """The memory at this step, a tensor."""
        t = ops.cast(self._iterations, "float32")
        return ops.minimum(self.memory, (1.0 + t) / (10.0 + t))

    @ema_momentum.setter
    def ema_momentum(self, value: float) -> None:
        self.memory = value

    def get_config(self) -> dict:
        """Return what is needed to make the optimizer again."""
        config = {**super().get_config(), "memory": self.memory}
        return {k: v for k, v in config.items() if k not in ("use_ema", "ema_momentum")}


def one_for_each(names: Sequence[str], optimizers: Any, scaled: bool) -> dict:
    """Return a dictionary from player's name to optimizer, or say what is wrong.

    Args:
        names: The players' names.
        optimizers: One optimizer (a name or an object) for one player, a name for
            all, or a dictionary.
        scaled: Whether to scale losses, so that float16 holds their gradients.

    Raises:
        ValueError: If an object is to be shared, or the names are not the players'.
    """
    if not isinstance(optimizers, Mapping):
        if len(names) > 1 and not isinstance(optimizers, str):
            raise ValueError(
                "`optimizers` must be a dictionary with one optimizer for each of "
                f"{names}. Received: {optimizers!r}. An optimizer keeps moments "
                "for its own variables and cannot be shared."
            )
        optimizers = dict.fromkeys(names, optimizers)
    if set(optimizers) != set(names):
        raise ValueError(
            f"`optimizers` must name exactly the players {names}. "
            f"Received: {sorted(optimizers)}. Rename, add or remove entries."
        )
    found = {name: keras.optimizers.get(optimizers[name]) for name in names}
    return {name: _scaled(o) if scaled else o for name, o in found.items()}


def _scaled(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Return an optimizer that scales its loss, so that float16 holds gradients."""
    scaler = keras.optimizers.LossScaleOptimizer
    if isinstance(optimizer, scaler) or optimizer.loss_scale_factor is not None:
        return optimizer
    return scaler(optimizer)
