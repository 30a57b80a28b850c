"""One thread that owns a sampler, the queue in front of it, and what it counts.

:mod:`genai_utils.serve` shows these names to its users.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from genai_utils.orders import Limits, Order, Refusal

__all__ = ["Batcher", "Stats"]

_LOG = logging.getLogger(__name__)
_QUANTILES = (0.5, 0.9, 0.99)


class Stats:
    """Counts and times of a service, as ``GET /metrics`` shows them."""

    def __init__(self, last: int = 1000) -> None:
        self._lock = threading.Lock()
        self.answers: Counter = Counter()
        self.batches = self.batched = self.samples = 0
        self.seconds = 0.0
        self._latencies: deque[float] = deque(maxlen=last)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count an answer; the time of a served request joins the percentiles."""
        with self._lock:
            self.answers[path, status] += 1
            if (path, status) == ("/sample", 200):
                self._latencies.append(seconds)
                self.seconds += seconds

    def decoded(self, requests: int, samples: int) -> None:
        """Count a batch."""
        with self._lock:
            self.batches += 1
            self.batched += requests
            self.samples += samples

    def percentiles(self) -> dict[float, float]:
        """Return the median, p90 and p99 of the last served requests, in seconds."""
        with self._lock:
            seen = list(self._latencies)
        if not seen:
            return {}
        found = np.quantile(seen, _QUANTILES, method="higher")
        return dict(zip(_QUANTILES, found.tolist(), strict=True))

    def text(self, waiting: int) -> str:
        """Return all of it in the text format of Prometheus.

        Args:
            waiting: How many requests wait now.

        Reference:
            Prometheus documentation, Exposition formats, version 0.0.4.
        """
        percentiles = self.percentiles()
        with self._lock:
            answers = sorted(self.answers.items())
            served = self.answers["/sample", 200]
            numbers = {
                "batches_total": self.batches,
                "batched_requests_total": self.batched,
                "samples_total": self.samples,
            }
            seconds = self.seconds
        lines = ["# TYPE genai_requests_total counter"]
        for (path, status), count in answers:
            told = f'path="{path}",status="{status}"'
            lines.append(f"genai_requests_total{{{told}}} {count}")
        lines.append("# TYPE genai_latency_seconds summary")
        for q, value in percentiles.items():
            lines.append(f'genai_latency_seconds{{quantile="{q}"}} {value:.6f}')
        lines.append(f"genai_latency_seconds_sum {seconds:.6f}")
        lines.append(f"genai_latency_seconds_count {served}")
        for name, count in numbers.items():
            lines += [f"# TYPE genai_{name} counter", f"genai_{name} {count}"]
        lines += ["# TYPE genai_queue_length gauge", f"genai_queue_length {waiting}"]
        return "\n".join(lines) + "\n"


@dataclass
class _Job:
    order: Order
    future: Future = field(default_factory=Future)


class Batcher:
    """One thread that owns a sampler, and the bounded queue in front of it.

    Args:
        sample: ``sample(n, seed, label=label)`` returns an array of ``n`` rows; without
            classes, ``sample(n, seed)``.  If it also has ``draw`` and ``decode``, as
            :class:`genai_utils.export.LatentSampler` has, the requests of a batch are
            decoded in one call; else one after the other.  If that call fails, each
            request is tried alone, so that only those that fail alone get the error.
            What is no :class:`Exception`, such as ``SystemExit``, ends the thread.
        limits: When to refuse, and how long to gather.
        stats: What counts the batches.
    """

    def __init__(
        self,
        sample: Callable[..., np.ndarray],
        limits: Limits | None = None,
        stats: Stats | None = None,
    ) -> None:
        self.sample, self.limits = sample, limits or Limits()
        self.stats = stats or Stats()
        self.num_classes = getattr(sample, "num_classes", None)
        self._gathers = hasattr(sample, "draw") and hasattr(sample, "decode")
        self._queue: queue.Queue[_Job | None] = queue.Queue()  # `submit` bounds it
        self._lock, self._closing, self._ended = threading.Lock(), False, False
        self._since: float | None = None  # when the batch in work was begun
        self._thread = threading.Thread(target=self._work, name="sampler", daemon=True)
        self._thread.start()

    @property
    def closing(self) -> bool:
        """Whether new requests are refused."""
        return self._closing

    @property
    def trouble(self) -> str | None:
        """Why no answer is to be expected, or ``None`` if all is well."""
        if self._closing:
            return "The service is closing."
        if self._ended or not self._thread.is_alive():
            return "The sampler's thread has ended. Start the service again."
        since = self._since
        if since is None or time.monotonic() - since <= self.limits.hang:
            return None
        return f"One batch has taken more than {self.limits.hang:g} s."

    def waiting(self) -> int:
        """Return how many requests wait."""
        return self._queue.qsize()

    def submit(self, order: Order) -> Future:
        """Put an order into the queue.

        Args:
            order: What is asked for.

        Returns:
            A future of the array.

        Raises:
            Refusal: With 429 if the queue is full, 503 if the service is closing or
                the thread has ended.
        """
        job = _Job(order)
        with self._lock:  # nothing enters after `close` or `_drop` has taken the lock
            if self._closing or self._ended:
                raise Refusal(503, "The service is closing or has ended.")
            if self._queue.qsize() >= self.limits.queue:
                raise Refusal(429, "Too many requests wait. Try later.")
            self._queue.put(job)
        return job.future

    def close(self, grace: float | None = None) -> bool:
        """Refuse new requests, answer those that wait, and end the thread.

        Args:
            grace: Seconds to wait for that; ``None`` for as long as it takes.

        Returns:
            Whether the thread has ended.  If not, those that still wait are refused
            with 503.  The thread is a daemon: it ends after the batch in work, or
            with the process.
        """
        with self._lock:
            already, self._closing = self._closing, True
        if not already:
            self._queue.put(None)
        self._thread.join(grace)
        if self._thread.is_alive():
            self._drop()
            self._queue.put(None)
        return not self._thread.is_alive()

    def _drop(self) -> None:
        """Refuse all that wait, and all that come."""
        with self._lock:
            self._ended = True
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._queue.get_nowait()
                if job is not None and job.future.set_running_or_notify_cancel():
                    job.future.set_exception(Refusal(503, "The service has stopped."))

    def _work(self) -> None:
        jobs: list[_Job] = []
        try:
            job = self._queue.get()
            while job is not None:
                jobs, job = self._gather(job)
                jobs = [j for j in jobs if j.future.set_running_or_notify_cancel()]
                self._since = time.monotonic()
                if jobs:
                    self._answer(jobs)
                self._since = None
                if job is _NEXT:
                    job = self._queue.get()
        except BaseException:  # nobody is above this frame, and the thread ends
            _LOG.critical("the sampler has ended its thread", exc_info=True)
        finally:
            self._drop()
            for unanswered in (j for j in jobs if not j.future.done()):
                error = RuntimeError("the sampler has ended its thread")
                unanswered.future.set_exception(error)

    def _gather(self, first: _Job) -> tuple[list[_Job], Any]:
        """The jobs of one batch, and ``None`` where it is the last."""
        jobs, rows = [first], first.order.n
        until = time.monotonic() + self.limits.wait
        while self._gathers and rows < self.limits.rows:
            try:
                left = until - time.monotonic()
                job = self._queue.get(left > 0, max(left, 0.0))
            except queue.Empty:
                break
            if job is None:
                return jobs, None
            jobs.append(job)
            rows += job.order.n
        return jobs, _NEXT

    def _answer(self, jobs: list[_Job]) -> None:
        """Answer a batch; if it fails, each of its requests alone."""
        try:
            made = self._decoded(jobs) if self._gathers else [self._one(jobs[0])]
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
                return
            _LOG.warning("a batch failed: trying its requests alone", exc_info=True)
            for job in jobs:
                self._answer([job])
            return
        for job, samples in zip(jobs, made, strict=True):
            job.future.set_result(samples)

    def _options(self, order: Order) -> dict:
        return {} if self.num_classes is None else {"label": order.label}

    def _one(self, job: _Job) -> np.ndarray:
        order = job.order
        samples = self.sample(order.n, order.seed, **self._options(order))
        self.stats.decoded(1, order.n)
        return np.asarray(samples)

    def _decoded(self, jobs: list[_Job]) -> list[np.ndarray]:
        """Draw each request's own noise, decode all rows at once, and deal them out."""
        draws = [
            self.sample.draw(j.order.n, j.order.seed, **self._options(j.order))
            for j in jobs
        ]
        stacked = [np.concatenate(parts) for parts in zip(*draws, strict=True)]
        made = np.asarray(self.sample.decode(*stacked))
        self.stats.decoded(len(jobs), len(made))
        return np.split(made, np.cumsum([j.order.n for j in jobs])[:-1])


_NEXT: Any = object()
