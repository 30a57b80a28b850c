"""Every model of the book as a game: players take turns at their own losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np

from genai_utils.backends import value_and_gradients
from genai_utils.checks import check_array

__all__ = ["Game", "Player"]


@dataclass(frozen=True)
class Player:
    """One player of a game: what it may change, and what it wants.

    Args:
        name: A word; among several players the loss is logged as ``<name>_loss``, a
            single player's as ``loss``.
        networks: The layers whose trainable variables it may change.
        loss: Maps ``(x, training)`` to a scalar tensor, or to ``(scalar, logs)`` with
            a dictionary of further scalars to log.
        logs: The names of those further scalars.
    """

    name: str
    networks: Sequence[keras.layers.Layer]
    loss: Callable[[Any, bool], Any]
    logs: tuple[str, ...] = ()

    @cached_property
    def variables(self) -> list[keras.Variable]:
        """The variables that only this player changes, as when first asked for."""
        return [v for n in self.networks for v in n.trainable_variables]

    def evaluate(self, x: Any, training: bool) -> tuple[Any, dict]:
        """Return ``(loss, logs)`` with exactly the logs that were announced."""
        result = self.loss(x, training)
        loss, logs = result if isinstance(result, tuple) else (result, {})
        if set(logs) != set(self.logs):
            raise ValueError(
                f"the loss of player {self.name!r} must log {sorted(self.logs)}. "
                f"Received: {sorted(logs)}. Make `Player(logs=...)` name them."
            )
        return loss, logs


@keras.saving.register_keras_serializable("genai_utils")
class PlayerOptimizers(keras.optimizers.Optimizer):
    """The players' optimizers behind the face of one, which is what Keras expects.

    Its learning rate is that of all players together: reading it gives the first
    player's, setting it sets every player's.

    Args:
        players: Maps each player's name to its optimizer.
    """

    def __init__(self, players: Mapping[str, keras.optimizers.Optimizer]) -> None:
        super().__init__(learning_rate=1.0, name="players")
        self.players = dict(players)

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
        for optimizer in self.players.values():
            optimizer.learning_rate = value

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Do nothing: ``Game.compile`` builds each optimizer for its player."""
        self.built = True

    def finalize_variable_values(self, var_list: Sequence[keras.Variable]) -> None:
        """After ``fit``, let optimizers that average weights write the averages."""
        for optimizer in self.players.values():
            optimizer.finalize_variable_values(optimizer._trainable_variables)


class Game(keras.Model):
    """A Keras model whose players each minimise a loss of their own, in turn.

    A subclass sets its networks in ``__init__`` and returns its players; Keras' own
    ``fit`` then trains it, with callbacks, on TensorFlow, JAX and PyTorch::

        class Autoencoder(Game):
            def __init__(self, encoder, decoder):
                super().__init__()
                self.encoder, self.decoder = encoder, decoder

            def players(self):
                nets = [self.encoder, self.decoder]
                return [Player("autoencoder", nets, self.loss_of)]

    A loss gets ``(x, training)``.  Random numbers come from seed generators that are
    attributes of the model, so that they are saved with it.
    """

    #: Range that ``fit`` demands of its data; ``None`` for no limit.
    data_range: tuple[float | None, float | None] = (None, None)

    def players(self) -> list[Player]:
        """Return the players in the order of their turns."""
        raise NotImplementedError(
            f"`{type(self).__name__}.players` must return a list of `Player`. "
            "Received: no such method. Write one, as in the docstring of `Game`."
        )

    def compile(self, optimizers: Any = "adam", **kwargs: Any) -> None:
        """Give each player an optimizer.

        The players and their variables are taken down here: as in Keras, compile again
        after changing a layer's ``trainable``.

        Args:
            optimizers: One optimizer (a name or an object) for a one-player game, or a
                dictionary from player's name to optimizer.
            **kwargs: ``run_eagerly``, ``steps_per_execution``, ``jit_compile`` of
                ``keras.Model.compile``.

        Raises:
            ValueError: If the dictionary does not name exactly the players, one
                optimizer object is given to several players, or a loss is passed.
        """
        players = self.players()
        names = [p.name for p in players]
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
        unknown = set(kwargs) - {"run_eagerly", "steps_per_execution", "jit_compile"}
        if unknown:
            raise ValueError(
                "`compile` takes `optimizers`, `run_eagerly`, `steps_per_execution` "
                f"and `jit_compile`. Received: {sorted(unknown)}. A game's losses are "
                "those of its players; give them in `players()`."
            )
        for player in players:
            if not player.variables:
                raise ValueError(
                    f"player {player.name!r} must have trainable variables. Received: "
                    "none. Give its networks an `Input`, or call them once, so that "
                    "they are built before `compile`."
                )
        if keras.backend.backend() == "tensorflow":
            kwargs.setdefault("jit_compile", False)  # plain graphs compile faster
            if not kwargs.get("run_eagerly"):
                kwargs.setdefault("steps_per_execution", 16)  # no Python between them
        chosen = {name: keras.optimizers.get(optimizers[name]) for name in names}
        joint = PlayerOptimizers(chosen)
        super().compile(optimizer=joint, auto_scale_loss=False, **kwargs)
        self._compile_kwargs = kwargs
        for player in players:
            chosen[player.name].build(player.variables)
        joint.built = self.built = True
        losses = [f"{n}_loss" for n in names] if len(names) > 1 else ["loss"]
        self._turns = dict(zip(losses, players, strict=True))
        self._scores = _Scores(
            name
            for loss, player in self._turns.items()
            for name in (loss, *player.logs)
        )

    def get_compile_config(self) -> dict:
        """Return the optimizers in a form that can be saved."""
        optimizers = {
            name: keras.saving.serialize_keras_object(optimizer)
            for name, optimizer in self.optimizer.players.items()
        }
        return {"optimizers": optimizers, **self._compile_kwargs}

    def compile_from_config(self, config: dict) -> None:
        """Compile as :meth:`get_compile_config` says."""
        optimizers = {
            name: keras.saving.deserialize_keras_object(optimizer)
            for name, optimizer in config["optimizers"].items()
        }
        self.compile(**{**config, "optimizers": optimizers})

    def fit(self, x: Any = None, **kwargs: Any) -> keras.callbacks.History:
        """Train with ``keras.Model.fit``, after a look at the data.

        Args:
            x: Samples ``(n, ...)``, or a data set that Keras can iterate over.
            **kwargs: Those of ``keras.Model.fit``.  There are no targets and no
                weights: a generative model learns ``x`` itself, every sample alike.

        Returns:
            Keras' history.

        Raises:
            TypeError: If ``x`` or ``validation_data`` does not hold numbers, or targets
                or weights are given.
            ValueError: If ``x`` is missing, ``x`` or ``validation_data`` is empty,
                holds NaN or leaves ``data_range``, ``batch_size`` is not a whole number
                above zero, or ``validation_split`` leaves one side empty.  Nothing has
                been trained then.
            FloatingPointError: If a loss or a log, of training or of validation, became
                NaN or infinite.
        """
        _refuse_targets("fit", kwargs)
        x = self._checked(x, "x")
        validation = kwargs.get("validation_data")
        if isinstance(validation, tuple):  # Keras' (x, y, sample_weight)
            names = ("y", "sample_weight")
            _refuse_targets("fit", dict(zip(names, validation[1:], strict=False)))
            validation = validation[0]
        if validation is not None:
            kwargs["validation_data"] = self._checked(validation, "validation_data")
        if isinstance(x, np.ndarray):
            share = kwargs.pop("validation_split", 0.0)
            if share and validation is None:
                x, kwargs["validation_data"] = _split(x, share)
            batch_size = kwargs.get("batch_size")
            batch_size = 32 if batch_size is None else batch_size  # as in Keras
            if not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
                raise ValueError(
                    "`batch_size` must be a whole number above zero. "
                    f"Received: {batch_size!r}. Choose one such as 128."
                )
            if keras.backend.backend() != "jax":
                kwargs["batch_size"] = None
                if kwargs.get("validation_batch_size") is None:
                    kwargs["validation_batch_size"] = batch_size
                x = _batches(x, int(batch_size), kwargs.pop("shuffle", True))
                kwargs["shuffle"] = False  # done
        callbacks = keras.tree.flatten(kwargs.pop("callbacks", None) or [])
        return super().fit(x, callbacks=[_StopAtNaN(), *callbacks], **kwargs)

    def evaluate(self, x: Any = None, return_dict: bool = False, **kwargs: Any) -> Any:
        """Evaluate every player's loss with ``keras.Model.evaluate``.

        Args:
            x: Samples ``(n, ...)``, or a data set that Keras can iterate over.
            return_dict: Whether to return a dictionary from name to number.
            **kwargs: Those of ``keras.Model.evaluate``.

        Returns:
            The losses and logs in the order of the players, as a dictionary or a list;
            where there is only one, that number instead of a list.

        Raises:
            TypeError: If ``x`` does not hold numbers, or targets or weights are given.
            ValueError: If ``x`` is missing, empty, holds NaN or leaves ``data_range``.
        """
        _refuse_targets("evaluate", kwargs)
        found = super().evaluate(self._checked(x, "x"), return_dict=True, **kwargs)
        found = {name: found[name] for name in self._scores.names}  # Keras sorts them
        if return_dict:
            return found
        return list(found.values()) if len(found) > 1 else found.popitem()[1]

    def _checked(self, x: Any, name: str) -> Any:
        if x is None:
            raise ValueError(
                f"`{name}` must hold samples. Received: None. "
                "Pass an array or a data set."
            )
        if not isinstance(x, (np.ndarray, list)):
            return x  # a data set: its batches are looked at through the losses
        low, high = self.data_range
        return check_array(x, name, low=low, high=high).astype("float32", copy=False)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Running means of the losses and of what the losses log."""
        return [self._scores] if hasattr(self, "_scores") else []

    def train_step(self, *args: Any) -> Any:
        """One round: each player in turn sees the batch and updates itself."""
        if keras.backend.backend() != "jax":
            return self._round(args[0], self._turn)
        groups = (self.optimizer.variables, self.metrics_variables)
        return self._stateless(self._turn, groups, *args)

    def test_step(self, *args: Any) -> Any:
        """Evaluate each player's loss; nothing is learnt."""
        if keras.backend.backend() != "jax":
            return self._round(args[0], self._look)
        return self._stateless(self._look, (self.metrics_variables,), *args)

    def _stateless(self, turn: Any, groups: tuple, state: tuple, batch: Any) -> Any:
        """A round for JAX, where the state comes in and goes out as arrays."""
        groups = (self.trainable_variables, self.non_trainable_variables, *groups)
        pairs = [
            pair
            for variables, values in zip(groups, state, strict=True)
            for pair in zip(variables, values, strict=True)
        ]
        with keras.StatelessScope(state_mapping=pairs) as scope:
            logs = self._round(batch, turn)
        return logs, tuple([scope.get_current_value(v) for v in g] for g in groups)

    def _round(self, batch: Any, turn: Callable[[Player, Any], tuple]) -> dict:
        x, *_ = keras.utils.unpack_x_y_sample_weight(batch)
        logs: dict = {}
        for loss_name, player in self._turns.items():
            loss, more = turn(player, x)
            logs |= {loss_name: loss, **more}
        self._scores.update_state(logs, keras.ops.shape(x)[0])
        return self._scores.result()

    def _turn(self, player: Player, x: Any) -> tuple[Any, dict]:
        """Evaluate a player's loss, differentiate it, update that player alone."""
        # only JAX must be told what a loss may change; elsewhere the list costs time
        state = self.variables if keras.backend.backend() == "jax" else ()
        loss, logs, gradients = value_and_gradients(
            lambda: player.evaluate(x, True), player.variables, state
        )
        self.optimizer.players[player.name].apply(gradients, player.variables)
        return loss, logs

    def _look(self, player: Player, x: Any) -> tuple[Any, dict]:
        """Evaluate a player's loss as in use; nothing is learnt."""
        return player.evaluate(x, False)

    @property
    def _random_state(self) -> list[keras.Variable]:
        """States of all seed generators; Keras does not save them by itself."""
        return [v for v in self.variables if v.name == "seed_generator_state"]

    def save_own_variables(self, store: dict) -> None:
        """Write the random state; the networks write their own weights."""
        for i, v in enumerate(self._random_state):
            store[str(i)] = keras.ops.convert_to_numpy(v)

    def load_own_variables(self, store: dict) -> None:
        """Read the random state back, so that training continues identically."""
        for i, v in enumerate(self._random_state):
            v.assign(store[str(i)])

    def _symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Do nothing: ``compile`` has made every variable already."""


def _refuse_targets(method: str, arguments: Mapping[str, Any]) -> None:
    for name in ("y", "sample_weight", "class_weight"):
        if arguments.get(name) is not None:
            raise TypeError(
                f"`{method}` takes no targets and no weights: a generative model "
                f"learns `x` itself, every sample alike. Received: `{name}` of type "
                f"{type(arguments[name]).__name__}. Leave it out."
            )


def _split(x: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Keep the last ``share`` of the samples for validation, as Keras does."""
    kept = int(len(x) * (1 - share))
    if not 0 < kept < len(x):
        raise ValueError(
            "`validation_split` must leave samples on both sides. Received: "
            f"{share!r} for {len(x)} samples. Choose a share between 0 and 1, such as "
            "0.1, or pass `validation_data`."
        )
    return x[:kept], x[kept:]


def _batches(x: np.ndarray, batch_size: int, shuffle: bool) -> Any:
    """Cut an array in memory into batches, in a new order each epoch.

    On JAX that is left to Keras.  On PyTorch Keras' loader takes about twice as long.
    """
    if keras.backend.backend() == "torch":
        return _torch_batches(x, batch_size, shuffle)
    return _tensorflow_batches(x, batch_size, shuffle)


def _torch_batches(x: np.ndarray, batch_size: int, shuffle: bool) -> Any:
    """Do without the loader's Python between two batches."""
    import torch

    samples = torch.tensor(np.ascontiguousarray(x))

    class Batches(torch.utils.data.DataLoader):
        def __iter__(self) -> Iterator:
            order = torch.randperm(len(x)) if shuffle else torch.arange(len(x))
            batches = (samples.index_select(0, i) for i in order.split(batch_size))
            return map(keras.ops.convert_to_tensor, batches)  # to the model's device

    return Batches(samples, batch_size)


def _tensorflow_batches(x: np.ndarray, batch_size: int, shuffle: bool) -> Any:
    """Do without functions in the pipeline and without autotuning.

    Keras' functions are set up again at the start of each epoch, and their random
    numbers with them: with a seed set, every epoch has the same order.  Autotuning has
    a thread that sleeps 10, 20, 40, ... milliseconds between two looks and often keeps
    the end of an epoch waiting.
    """
    import tensorflow as tf

    samples = tf.data.Dataset.from_tensor_slices(x)
    if shuffle:
        samples = samples.shuffle(len(x))
    options = tf.data.Options()
    options.autotune.enabled = False
    return samples.batch(batch_size).prefetch(2).with_options(options)


class _Scores(keras.metrics.Metric):
    """Means over the samples seen, all in one vector: a step adds to it once."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__(name="scores")
        self.names = tuple(names)
        self.sums = self.add_variable((len(self.names) + 1,), "zeros", name="sums")

    def update_state(self, logs: Mapping[str, Any], count: Any) -> None:
        """Add the means of a batch of ``count`` samples."""
        ops = keras.ops
        means = [ops.cast(logs[name], self.dtype) for name in self.names]
        weight = ops.cast(count, self.dtype)
        self.sums.assign_add(ops.stack([*means, ops.ones_like(weight)]) * weight)

    def result(self) -> dict:
        """Return the mean of each name; zero before the first batch, as in Keras."""
        sums = self.sums.value
        means = keras.ops.unstack(sums[:-1] / keras.ops.maximum(sums[-1], 1))
        return dict(zip(self.names, means, strict=True))


class _StopAtNaN(keras.callbacks.Callback):
    """Ends a training that can no longer learn anything.

    On JAX and PyTorch Keras serves the ends of batches in other threads, unless a
    callback says that this is not safe.  On PyTorch they take time from the steps.
    """

    async_safe = keras.backend.backend() != "torch"

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        bad = [k for k, v in (logs or {}).items() if not math.isfinite(v)]
        if bad:
            raise FloatingPointError(
                f"{', '.join(bad)} must stay finite. Received: NaN or infinity in "
                f"epoch {self.epoch}. Lower the learning rate, or check the data."
            )

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.on_train_batch_end(-1, logs)
