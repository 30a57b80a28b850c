"""Who plays a game: what each player may change, what it wants, what is recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras

__all__ = ["Player", "Scores", "check_players", "refuse_taken_names"]

#: Names that Keras gives to attributes of a model; a method of that name is lost.
_TAKEN = {"history", "loss", "optimizer", "stop_training", "train_function"}
_TAKEN |= {"test_function", "predict_function", "steps_per_execution", "run_eagerly"}
_TAKEN |= {"built", "compiled", "name", "inputs", "outputs", "jit_compile"}
_TAKEN |= {n for n, v in vars(keras.Model).items() if isinstance(v, property)}
_TAKEN |= {n for n, v in vars(keras.Layer).items() if isinstance(v, property)}


@dataclass(frozen=True)
class Player:
    """One player of a game: what it may change, and what it wants.

    Args:
        name: A word; among several players the loss is logged as ``<name>_loss``, a
            single player's as ``loss``.
        networks: The layers whose trainable variables it may change.
        loss: Maps ``(x, training)``, or ``(x, y, training)`` in a game with
            conditions, to a scalar tensor or to ``(scalar, logs)`` with a dictionary
            of further scalars to log.
        logs: The names of those further scalars.
        turns: Turns in each round, each with new noise; losses are logged as means.
    """

    name: str
    networks: Sequence[keras.layers.Layer]
    loss: Callable[..., Any]
    logs: tuple[str, ...] = ()
    turns: int = 1

    @cached_property
    def variables(self) -> list[keras.Variable]:
        """The variables that only this player changes, as when first asked for."""
        return [v for n in self.networks for v in n.trainable_variables]

    def evaluate(self, *batch: Any) -> tuple[Any, dict]:
        """Return ``(loss, logs)`` in float32, with the logs that were announced.

        Args:
            *batch: ``(x, training)``, or ``(x, y, training)``.
        """
        result = self.loss(*batch)
        loss, logs = result if isinstance(result, tuple) else (result, {})
        if set(logs) != set(self.logs):
            raise ValueError(
                f"the loss of player {self.name!r} must log {sorted(self.logs)}. "
                f"Received: {sorted(logs)}. Make `Player(logs=...)` name them."
            )
        return keras.ops.cast(loss, "float32"), logs


def check_players(players: Sequence[Player], settings: Mapping[str, Any]) -> None:
    """Refuse players that cannot play, and settings that a game has no use for.

    Args:
        players: The players of a game.
        settings: The further arguments of ``compile``.

    Raises:
        ValueError: If two have one name, one has nothing to train, a number of turns
            is not a whole number above zero, or a setting is unknown.
    """
    unknown = set(settings) - {"run_eagerly", "steps_per_execution", "jit_compile"}
    if unknown:
        raise ValueError(
            "`compile` takes `optimizers`, `run_eagerly`, `steps_per_execution` "
            f"and `jit_compile`. Received: {sorted(unknown)}. A game's losses are "
            "those of its players; give them in `players()`."
        )
    names = [p.name for p in players]
    if len(set(names)) < len(names):
        raise ValueError(
            f"`players` must have different names. Received: {names}. For several "
            "turns in a round use `Player(..., turns=5)`."
        )
    for player in players:
        if not player.variables:
            raise ValueError(
                f"player {player.name!r} must have trainable variables. Received: "
                "none. Give its networks an `Input`, or call them once, so that "
                "they are built before `compile`."
            )
        if not isinstance(player.turns, int) or player.turns < 1:
            raise ValueError(
                f"`turns` of player {player.name!r} must be a whole number above "
                f"zero. Received: {player.turns!r}. Choose 1, or 5 for a critic."
            )


def refuse_taken_names(model: keras.Model, base: type) -> None:
    """Refuse a class that defines what Keras overwrites with something of its own.

    Args:
        model: The model.
        base: The class below which the definitions are looked at.

    Raises:
        ValueError: If such a name is found.
    """
    mine = type(model).__mro__[: type(model).__mro__.index(base)]
    for name in sorted({n for c in mine for n in vars(c)} & _TAKEN):
        raise ValueError(
            f"`{type(model).__name__}.{name}` must have another name: Keras keeps "
            f"something of its own in `{name}`. Received: a class that defines it. "
            f"Rename it, e.g. to `{name}_of`."
        )


class Scores(keras.metrics.Metric):
    """Means over the samples seen, all in one vector: a step adds to it once."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__(name="scores", dtype="float32")
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
