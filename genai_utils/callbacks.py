"""Callbacks: stop at NaN, a clock that scores, averaged weights on loan."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras

__all__ = ["Clock", "StopAtNaN", "averaged", "listens_to_batches"]

_EVERY = 16  # batches between two looks at the losses
_BATCH_HOOKS = [
    f"on_{phase}_batch_{end}" for phase in ("train", "test") for end in ("begin", "end")
] + ["on_batch_begin", "on_batch_end"]


def listens_to_batches(callback: keras.callbacks.Callback) -> bool:
    """Say whether a callback wants to hear of single batches.

    Args:
        callback: Any callback, of Keras or your own.
    """
    base = keras.callbacks.Callback
    return any(
        getattr(getattr(callback, hook), "__func__", None) is not getattr(base, hook)
        for hook in _BATCH_HOOKS
    )


class StopAtNaN(keras.callbacks.Callback):
    """End a training that can no longer learn anything.

    The losses are running means, so that one NaN stays in them to the end of the
    epoch: a look at every sixteenth batch is enough.

    Raises:
        FloatingPointError: If a loss or a log became NaN or infinite.
    """

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Remember which epoch this is."""
        self.epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Look at the losses from time to time."""
        if (batch + 1) % _EVERY == 0:
            self._look(logs)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Look at the losses, those of validation too."""
        self._look(logs)

    def _look(self, logs: dict | None) -> None:
        bad = [k for k, v in (logs or {}).items() if not math.isfinite(v)]
        if bad:
            raise FloatingPointError(
                f"{', '.join(bad)} must stay finite. Received: NaN or infinity in "
                f"epoch {self.epoch}. Lower the learning rate, or check the data."
            )


@contextmanager
def averaged(model: keras.Model) -> Iterator[None]:
    """Lend a game the running averages of its weights, where it keeps any.

    Args:
        model: A compiled game.  On leaving, it has its own weights again.
    """
    variables = model.trainable_variables
    values = [keras.ops.convert_to_numpy(v) for v in variables]
    model.optimizer.finalize_variable_values(variables)
    try:
        yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


class Clock(keras.callbacks.Callback):
    """Score a game at given seconds of training, and end it after the last.

    The time of tracing and compiling counts, the time of scoring does not.

    Args:
        marks: Seconds at which to score, rising.
        score: Maps the model, with averaged weights, to a dictionary of numbers.
        report: Called with each point; ``print`` shows them while they come.
        now: Reads the clock, in seconds.  With ``time.process_time`` it counts the
            processor's seconds, which a busy machine does not use up.
    """

    def __init__(
        self,
        marks: Sequence[float],
        score: Callable[[Any], dict],
        report: Callable[[dict], Any] = lambda point: None,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        super().__init__()
        self.marks, self.score, self.report = list(marks), score, report
        self.now = now
        self.points: list[dict] = []

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Start the clock."""
        self.start = self.now()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Score if a mark has passed, with the clock standing still."""
        now = self.now()
        if not self.marks or now - self.start < self.marks[0]:
            return
        while self.marks and now - self.start >= self.marks[0]:
            self.marks.pop(0)
        steps = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))
        point = {"seconds": round(now - self.start, 1), "steps": steps}
        point["epochs"] = round(steps / self.params["steps"], 2)
        with averaged(self.model):
            self.points.append(point | self.score(self.model))
        self.report(self.points[-1])
        self.start += self.now() - now  # the clock stood still
        self.model.stop_training = not self.marks
