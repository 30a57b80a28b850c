"""Every model of the book as a game: players take turns at their own losses."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from genai_utils import backends, feeding
from genai_utils.callbacks import StopAtNaN, listens_to_batches
from genai_utils.feeding import Field
from genai_utils.optimizers import PlayerOptimizers, one_for_each
from genai_utils.players import Player, Scores, check_players, refuse_taken_names

__all__ = ["Field", "Game", "Player"]


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

    A loss gets ``(x, training)``; if the game declares a ``condition``, it gets
    ``(x, y, training)``.  Random numbers come from seed generators that are attributes
    of the model, so that they are saved with it.
    """

    #: What the samples must look like, e.g. ``Field("int32", 0, 255)`` for bytes.
    data: Field = Field()
    #: What comes as ``y``: ``None``, a ``Field``, or a dictionary of them.
    condition: Field | Mapping[str, Field] | None = None

    def players(self) -> list[Player]:
        """Return the players in the order of their turns."""
        raise NotImplementedError(
            f"`{type(self).__name__}.players` must return a list of `Player`. "
            "Received: no such method. Write one, as in the docstring of `Game`."
        )

    def compile(self, optimizers: Any = "adam", **kwargs: Any) -> None:
        """Give each player an optimizer.

        The players and their variables are recorded here: as in Keras, compile again
        after changing a layer's ``trainable``.  Under ``mixed_float16`` each player's
        loss is scaled, as Keras does it.  On TensorFlow 16 steps run in one call; where
        a callback or the progress bar listens to batches, one.

        Args:
            optimizers: One optimizer (a name or an object) for a one-player game, or a
                dictionary from player's name to optimizer.
            **kwargs: ``run_eagerly``, ``steps_per_execution``, ``jit_compile`` of
                ``keras.Model.compile``.

        Raises:
            ValueError: If the dictionary does not name exactly the players, one
                optimizer object is given to several players, a loss is passed, two
                players have one name, or a method has a name that Keras uses itself.
        """
        refuse_taken_names(self, Game)
        players = self.players()
        check_players(players, kwargs)
        scaled = self.dtype_policy.name == "mixed_float16"
        joint = PlayerOptimizers(
            one_for_each([p.name for p in players], optimizers, scaled)
        )
        defaults = backends.compile_defaults(self, bool(kwargs.get("run_eagerly")))
        super().compile(optimizer=joint, auto_scale_loss=False, **(defaults | kwargs))
        self._compile_kwargs = kwargs
        self._steps_wanted = self.steps_per_execution
        for player in players:
            joint.players[player.name].build(player.variables)
        joint.built = self.built = True
        names = [f"{p.name}_loss" for p in players] if len(players) > 1 else ["loss"]
        self._turns = dict(zip(names, players, strict=True))
        self._scores = Scores(
            log for name, player in self._turns.items() for log in (name, *player.logs)
        )

    def get_compile_config(self) -> dict:
        """Return the optimizers in a form that can be saved."""
        config = self.optimizer.get_config()["players"]
        return {"optimizers": config, **self._compile_kwargs}

    def compile_from_config(self, config: dict) -> None:
        """Compile as :meth:`get_compile_config` says."""
        optimizers = {
            name: keras.saving.deserialize_keras_object(optimizer)
            for name, optimizer in config["optimizers"].items()
        }
        self.compile(**{**config, "optimizers": optimizers})

    def fit(self, x: Any = None, y: Any = None, **kwargs: Any) -> Any:
        """Train with ``keras.Model.fit``, after a look at the data.

        Args:
            x: Samples ``(n, ...)``, or a data set whose batches are ``x``, or
                ``(x, y)`` for a game with conditions.
            y: Conditions ``(n, ...)`` of arrays; only for a game that declares some.
            **kwargs: Those of ``keras.Model.fit`` except weights: every sample counts
                alike.

        Returns:
            Keras' history.

        Raises:
            TypeError: If ``x``, ``y`` or ``validation_data`` has another dtype than
                declared, or targets or weights are given that nothing asks for.
            ValueError: If something is missing, empty, holds NaN or leaves its range,
                ``batch_size`` is not a whole number above zero, or
                ``validation_split`` leaves one side empty.  Nothing has been trained.
            FloatingPointError: If a loss or a log, of training or of validation, became
                NaN or infinite.
        """
        feeding.refuse_weights("fit", kwargs)
        endless = not feeding.is_array(x) and kwargs.get("steps_per_epoch") is None
        once = hasattr(x, "__next__") and kwargs.get("epochs", 1) > 1
        x, y = feeding.look(self, x, y)
        validation = kwargs.pop("validation_data", None)
        share = kwargs.pop("validation_split", 0.0)
        if validation is not None:
            validation = feeding.look_at_validation(self, validation)
        elif share and isinstance(x, np.ndarray):
            (x, y), validation = feeding.split(x, y, share)
        if isinstance(x, np.ndarray):
            x, y, kwargs = feeding.in_batches(x, y, kwargs)
        else:
            kwargs.setdefault("shuffle", False)  # a data set has its own order
        callbacks = keras.tree.flatten(kwargs.pop("callbacks", None) or [])
        self._choose_steps(callbacks, kwargs.get("verbose", "auto"))
        kwargs |= {"validation_data": validation, "callbacks": [StopAtNaN()]}
        kwargs["callbacks"] += callbacks
        with warnings.catch_warnings():
            if endless and not once:  # its end is known only when it is reached
                warnings.filterwarnings("ignore", message="Your input ran out of data")
            return super().fit(x, y, **kwargs)

    def _choose_steps(self, callbacks: list, verbose: Any) -> None:
        """One step a call where batches are listened to, so that they count right."""
        listening = verbose not in (0, 2) or any(map(listens_to_batches, callbacks))
        steps = 1 if listening else self._steps_wanted
        if "steps_per_execution" not in self._compile_kwargs and (
            steps != self.steps_per_execution
        ):
            self.steps_per_execution = steps
            self.train_function = self.test_function = None

    def evaluate(
        self, x: Any = None, y: Any = None, return_dict: bool = False, **kwargs: Any
    ) -> Any:
        """Evaluate every player's loss with ``keras.Model.evaluate``.

        Args:
            x: Samples ``(n, ...)``, or a data set, as in :meth:`fit`.
            y: Conditions, as in :meth:`fit`.
            return_dict: Whether to return a dictionary from name to number.
            **kwargs: Those of ``keras.Model.evaluate``.

        Returns:
            The losses and logs in the order of the players, as a dictionary or a list;
            where there is only one, that number instead of a list.

        Raises:
            TypeError: As :meth:`fit`.
            ValueError: As :meth:`fit`.
        """
        feeding.refuse_weights("evaluate", kwargs)
        cached = kwargs.get("_use_cached_eval_dataset")  # Keras, within `fit`
        x, y = (x, y) if cached else feeding.look(self, x, y)
        found = super().evaluate(x, y, return_dict=True, **kwargs)
        found = {name: found[name] for name in self._scores.names}  # Keras sorts them
        if return_dict:
            return found
        return list(found.values()) if len(found) > 1 else found.popitem()[1]

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Running means of the losses and of what the losses log."""
        return [self._scores] if hasattr(self, "_scores") else []

    def train_step(self, *args: Any) -> Any:
        """One round: each player in turn sees the batch and updates itself."""
        return backends.run_round(self, self._training_round, True, args)

    def test_step(self, *args: Any) -> Any:
        """Evaluate each player's loss; nothing is learnt."""
        return backends.run_round(self, self._test_round, False, args)

    def _training_round(self, batch: Any) -> dict:
        logs = self._round(batch, self._turn)
        self.optimizer.iterations.assign_add(1)
        return logs

    def _test_round(self, batch: Any) -> dict:
        return self._round(batch, lambda player, x: player.evaluate(*x, False))

    def _round(self, batch: Any, turn: Callable[[Player, tuple], tuple]) -> dict:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        x = feeding.cast(self.data, x)
        y = () if self.condition is None else (feeding.cast(self.condition, y),)
        logs: dict = {}
        for name, player in self._turns.items():
            loss, more = turn(player, (x, *y))
            logs |= {name: loss, **more}
        self._scores.update_state(logs, keras.ops.shape(x)[0])
        return self._scores.result()

    def _turn(self, player: Player, batch: tuple) -> tuple[Any, dict]:
        """Evaluate a player's loss, differentiate it, update that player alone."""
        optimizer = self.optimizer.players[player.name]
        # Keras sums the replicas' gradients; float16 has its losses scaled
        scale = optimizer.scale_loss(1.0) / backends.num_replicas()

        def objective():
            loss, logs = player.evaluate(*batch, True)
            return loss * scale, {**logs, "": loss}

        seen = []
        for _ in range(player.turns):
            _, logs, gradients = backends.value_and_gradients(
                objective, player.variables, self
            )
            backends.apply_gradients(optimizer, gradients, player.variables)
            seen.append(logs)
        means = {key: sum(logs[key] for logs in seen) / len(seen) for key in seen[0]}
        return means.pop(""), means

    def compiled_function(self, fn: Callable) -> Callable:
        """Compile a function that generation calls very often.

        Args:
            fn: Takes and returns tensors; it may read the model's variables, and
                changes none.

        Returns:
            A function of arrays or tensors that returns tensors.
        """
        return backends.compiled(fn, self)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: a game has networks to call, but no single forward pass."""
        raise NotImplementedError(
            f"`{type(self).__name__}` is a game of several networks and has no `call`. "
            "Received: a call, `predict` or `export`. Use its `sample`, or one of its "
            "networks, e.g. `model.generator.predict(z)` or "
            "`model.generator.export(path)`."
        )

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Predict with the subclass' own ``call``, if it has one."""
        return super().predict(*args, **kwargs) if self._can_call else self.call()

    def export(self, *args: Any, **kwargs: Any) -> Any:
        """Export the subclass' own ``call``, if it has one."""
        return super().export(*args, **kwargs) if self._can_call else self.call()

    @property
    def _can_call(self) -> bool:
        return type(self).call is not Game.call

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

    def _settings(self) -> dict:
        """Return the arguments of ``__init__``; networks may be among them."""
        return {}

    def get_config(self) -> dict:
        """Return what is needed to make the model again."""
        config = {
            k: keras.saving.serialize_keras_object(v)
            if isinstance(v, keras.layers.Layer)
            else v
            for k, v in self._settings().items()
        }
        return {**config, "name": self.name}

    @classmethod
    def from_config(cls, config: dict) -> Game:
        """Make the model from :meth:`get_config`."""
        made = {
            k: keras.saving.deserialize_keras_object(v)
            if isinstance(v, dict) and "class_name" in v
            else v
            for k, v in config.items()
        }
        return cls(**made)

    def _symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Do nothing: ``compile`` has made every variable already."""
