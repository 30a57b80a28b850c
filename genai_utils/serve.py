"""An HTTP service over a sampler, with the standard library and NumPy alone.

One worker thread owns the sampler and gathers the requests of a few milliseconds into
one batch.  Whatever a client sends, it gets a short answer in JSON that names the field
at fault; whatever breaks inside, the client sees no stack trace.

The service speaks plain HTTP, knows no users and trusts its network: put a proxy with
TLS and authentication in front of it before it leaves your machine.
"""

from __future__ import annotations

import io
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import wait as wait_for
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from genai_utils import png
from genai_utils.batching import Batcher, Stats
from genai_utils.orders import Limits, Order, Refusal, read_order

__all__ = ["Batcher", "Limits", "Order", "Refusal", "Server", "Stats", "read_order"]

_LOG = logging.getLogger(__name__)
_ROUTES = {
    "/health": ("GET", "_health"),
    "/card": ("GET", "_card"),
    "/metrics": ("GET", "_metrics"),
    "/sample": ("POST", "_sample"),
}
_DRAIN = 2**20  # bytes of a refused body that are read and thrown away


class _Listener(ThreadingHTTPServer):
    """A thread for each connection, up to a number."""

    request_queue_size = 128
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], owner: Server) -> None:
        self.owner = owner
        self._free = threading.BoundedSemaphore(int(owner.limits.connections))
        super().__init__(address, _Handler)

    def process_request(self, request: Any, address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, address)

    def process_request_thread(self, request: Any, address: Any) -> None:
        try:
            super().process_request_thread(request, address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, address: Any) -> None:
        _LOG.debug("connection of %s ended early", address, exc_info=True)


class Server:
    """The service: ``/health``, ``/card``, ``/metrics`` and ``/sample``.

    Use it as a context manager, or call :meth:`close` in the end::

        with Server(sampler, card) as server:
            urllib.request.urlopen(server.url + "/health")

    Args:
        sample: A sampler, as in :class:`Batcher`; any callable will do.
        card: What ``GET /card`` returns.
        host: Address to listen at; the default is seen by this machine alone.
        port: Port; 0 lets the system choose a free one.
        limits: When to refuse.
    """

    def __init__(
        self,
        sample: Callable[..., np.ndarray],
        card: Mapping[str, Any] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: Limits | None = None,
    ) -> None:
        self.card, self.limits = dict(card or {}), limits or Limits()
        self.stats = Stats()
        self._active, self._idle = 0, threading.Condition()
        self._listener = _Listener((host, port), self)
        self.batcher = Batcher(sample, self.limits, self.stats)
        self._thread = threading.Thread(
            target=self._listener.serve_forever, args=(0.05,), name="http", daemon=True
        )
        self._thread.start()
        self._closed = threading.Event()

    @property
    def url(self) -> str:
        """Return the address, as in ``http://127.0.0.1:8000``."""
        host, port = self._listener.server_address[:2]
        return f"http://{host}:{port}"

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the service is closed; return whether it is."""
        return self._closed.wait(seconds)

    def close(self, grace: float = 10.0) -> None:
        """Refuse new requests with 503, finish those under way, and stop listening.

        Args:
            grace: Seconds, in all, to wait for the sampler and for the last answers to
                be sent.  A sampler that hangs longer is left behind in its thread, a
                daemon that ends with the process.  Those who wait for their turn get
                503; those in its hands get 503 after ``limits.patience``, or nothing
                if the process ends before.
        """
        until = time.monotonic() + grace
        if not self.batcher.close(grace):
            _LOG.error("the sampler has not returned in %g s: left behind", grace)
        with self._idle:
            left = max(0.0, until - time.monotonic())
            self._idle.wait_for(lambda: self._active == 0, left)
        if not self._closed.is_set():
            self._listener.shutdown()
            self._listener.server_close()
            self._thread.join()
            self._closed.set()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *args: Any) -> None:
        self.close()

    def _enter(self, step: int) -> None:
        with self._idle:
            self._active += step
            self._idle.notify_all()

    def answer(self, order: Order) -> tuple[bytes, str, dict[str, str]]:
        """Sample, and return the body, its type and further headers.

        Args:
            order: What is asked for.

        Raises:
            Refusal: As :meth:`Batcher.submit`; 503 after ``limits.patience`` seconds;
                400 if samples that are no images are wanted as PNG.
        """
        future = self.batcher.submit(order)
        wait_for([future], self.limits.patience)
        if not future.done():
            future.cancel()
            raise Refusal(503, "It took too long. Try later, or ask for less.")
        samples = future.result()  # or the sampler's error, a TimeoutError as any other
        if order.format == "png":
            return self._png(order, samples), "image/png", {"X-Seed": str(order.seed)}
        told = {"generated_by_ai": True, "model": self.card.get("name", "unnamed")}
        told |= {"n": order.n, "seed": order.seed, "label": order.label}
        told |= {"shape": list(samples.shape), "samples": samples.tolist()}
        return json.dumps(told).encode(), "application/json", {}

    def _png(self, order: Order, samples: np.ndarray) -> bytes:
        if samples.ndim != 4 or samples.shape[-1] not in (1, 3):
            raise Refusal(400, "These samples are no images: ask for json.", "format")
        page = png.contact_sheet(np.clip(samples, -1.0, 1.0))
        text = {"Comment": png.MARK, "Software": "genai_utils"}
        text |= {"Source": str(self.card.get("name", "unnamed"))}
        text |= {"Seed": str(order.seed)}
        return png.encode(png.mark_visibly(page), text)


class _Reader(io.RawIOBase):
    """What a socket receives, with one deadline for all reads together."""

    def __init__(self, connection: Any, seconds: float) -> None:
        self._connection, self._until = connection, time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request took too long to arrive")
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    """One request: route it, and turn every failure into a short answer."""

    server_version, sys_version = "genai", ""
    server: _Listener

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        seconds = self.server.owner.limits.transfer
        self.rfile = io.BufferedReader(_Reader(self.connection, seconds))

    def do_GET(self) -> None:
        self._serve("GET")

    def do_HEAD(self) -> None:
        self._serve("GET")  # and `_send` leaves the body out

    def do_POST(self) -> None:
        self._serve("POST")

    def _serve(self, method: str) -> None:
        owner, start = self.server.owner, time.perf_counter()
        path = self.path.partition("?")[0]
        owner._enter(1)
        try:
            answer = (200, *self._route(path, method))
        except Refusal as refusal:
            answer = self._refused(refusal)
        except Exception:
            _LOG.exception("a request failed")  # here, and not at the client
            answer = self._refused(Refusal(500, "Internal error. It has been logged."))
        try:
            counted = path if path in _ROUTES else "other"
            owner.stats.answered(counted, answer[0], time.perf_counter() - start)
            self._send(*answer)
        finally:
            owner._enter(-1)

    def _route(self, path: str, method: str) -> tuple[bytes, str, dict]:
        lengths = self.headers.get_all("Content-Length", [])
        if len(lengths) > 1 or (lengths and "Transfer-Encoding" in self.headers):
            raise Refusal(400, "Send one Content-Length and no Transfer-Encoding.")
        if path not in _ROUTES:
            raise Refusal(404, f"Known are {', '.join(_ROUTES)}.")
        allowed, name = _ROUTES[path]
        if method != allowed:
            raise Refusal(405, f"Use {allowed}.")
        return getattr(self, name)()

    def _refused(self, refusal: Refusal) -> tuple:
        retry = {"Retry-After": "1"} if refusal.status in (429, 503) else {}
        body = json.dumps(refusal.body()).encode()
        return refusal.status, body, "application/json", retry

    def _send(self, status: int, body: bytes, kind: str, headers: dict) -> None:
        self.connection.settimeout(self.server.owner.limits.transfer)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _health(self) -> tuple:
        if trouble := self.server.owner.batcher.trouble:
            raise Refusal(503, trouble)
        return json.dumps({"status": "ok"}).encode(), "application/json", {}

    def _card(self) -> tuple:
        return json.dumps(self.server.owner.card).encode(), "application/json", {}

    def _metrics(self) -> tuple:
        owner = self.server.owner
        text = owner.stats.text(owner.batcher.waiting())
        return text.encode(), "text/plain; version=0.0.4", {}

    def _sample(self) -> tuple:
        owner = self.server.owner
        body = self._body(int(owner.limits.body))
        most, classes = int(owner.limits.samples), owner.batcher.num_classes
        return owner.answer(read_order(body, most, classes))

    def _body(self, most: int) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise Refusal(411, "Send the header Content-Length.")
        size = int(length.lstrip("0")[:12] or "0")
        if size > most:
            left = min(size, _DRAIN)  # so that the client reads our answer
            while left > 0 and (got := len(self._read(min(left, 65536)))):
                left -= got
            raise Refusal(413, f"The body must have at most {most} bytes.")
        kind = self.headers.get_content_type()
        if kind != "application/json":  # which a form on another site cannot send
            raise Refusal(415, "Send the header Content-Type: application/json.")
        body = self._read(size)
        if len(body) < size:
            raise Refusal(400, f"The body ended after {len(body)} of {size} bytes.")
        return body

    def _read(self, size: int) -> bytes:
        try:
            return self.rfile.read(size)
        except TimeoutError:
            raise Refusal(408, "The request took too long to arrive.") from None

    def send_error(self, code: int, message: Any = None, explain: Any = None) -> None:
        """Answer what is not even HTTP in JSON, too."""
        refusal = Refusal(int(code), str(message or "The request was not understood."))
        self.close_connection = True
        self._send(*self._refused(refusal))

    def log_message(self, text: str, *args: Any) -> None:
        _LOG.debug(text, *args)
