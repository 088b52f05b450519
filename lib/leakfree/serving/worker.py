"""A gunicorn worker that no slow sender can hold."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import logging
import selectors
import socket
import time
from collections.abc import Iterator
from concurrent import futures
from functools import partial
from http import HTTPStatus
from typing import Any, ClassVar

from gunicorn.http.body import ChunkedReader
from gunicorn.http.errors import ExpectationFailed, LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.http.message import Request
from gunicorn.util import write_nonblock
from gunicorn.workers.gthread import TConn, ThreadWorker

from leakfree.serving import monitoring
from leakfree.serving.app import HEADERS

#: Of freed memory, at least; giving it back takes a few milliseconds.
_SECONDS_KEPT = 5.0
# Only glibc has it.
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
#: What is no HTTP is answered with 400, but for these.
_STATUS = {LimitRequestLine: 414, LimitRequestHeaders: 431, ExpectationFailed: 417}


class DeadlineWorker(ThreadWorker):
    """A threaded worker whose threads are for requests: not for those who connect and send nothing.

    A new connection waits in the main loop for its first byte, and is closed when that takes too long. A
    question after the worker's health that has arrived whole has threads of its own.

    gunicorn's own limit covers the first byte only: a sender of one byte a minute would hold a thread for as
    long as it liked. Reading ends for such a connection, writing does not: an answer that takes long to
    compute still goes out.
    """

    #: For a request to arrive whole; `with_deadline` sets it.
    receive_seconds: ClassVar[float] = 15.0
    #: For the first byte of a new connection.
    idle_seconds: ClassVar[float] = 5.0

    def __init__(self, *args: object, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reading: dict[TConn, float] = {}
        self._given_back = time.monotonic()

    def init_process(self) -> None:
        """Start the threads, those for health as well."""
        self._health = futures.ThreadPoolExecutor(max_workers=2)
        super().init_process()

    def accept(self, listener: socket.socket) -> None:
        """Take a connection, and wait for its first byte where no thread waits with it."""
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                raise
            return
        self.nr_conns += 1
        conn = TConn(self.cfg, client, address, listener.getsockname())
        conn.timeout = time.monotonic() + self.idle_seconds
        self.pending_conns.append(conn)
        self.poller.register(client, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def enqueue_req(self, conn: TConn) -> None:
        """Hand a connection that has something to read to a thread."""
        if not _asks_health(conn.sock):
            super().enqueue_req(conn)
            return
        done = self._health.submit(self.handle, conn)
        done.add_done_callback(lambda future: self.method_queue.defer(self.finish_request, conn, future))

    def handle(self, conn: TConn) -> object:
        """Serve a connection in a thread, watched by the main loop."""
        self._reading[conn] = time.monotonic() + self.receive_seconds
        try:
            return super().handle(conn)
        finally:
            self._reading.pop(conn, None)

    def handle_request(self, req: Request, conn: TConn) -> bool:
        """Answer a request; what follows a chunk that is malformed is none."""
        if isinstance(req.body.reader, ChunkedReader):
            req.body.reader.parser = _last_where_malformed(req, req.body.reader.parser)
        keep = super().handle_request(req, conn)
        self._give_back()
        return keep

    def _give_back(self) -> None:
        """Return what large requests took, once in a while: the allocator would keep it for the next ones."""
        now = time.monotonic()
        if _trim is not None and now > self._given_back + _SECONDS_KEPT:
            self._given_back = now
            _trim(0)

    def _keepalive_after(self, conn: TConn, keepalive: bool) -> bool:
        # What is left of a body whose answer is sent already may be malformed.
        with contextlib.suppress(ParseException):
            return super()._keepalive_after(conn, keepalive)
        return False

    def handle_error(self, req: Request | None, client: socket.socket, addr: object, exc: Exception) -> None:
        """Answer what is no HTTP as the application answers: in one line, with an id that the log has."""
        status = 500
        if isinstance(exc, ParseException):
            status = next((code for kind, code in _STATUS.items() if isinstance(exc, kind)), 400)
        request_id, reason = monitoring.request_id(None), HTTPStatus(status).phrase
        monitoring.REQUESTS.labels("other", "unknown", status).inc()
        about = {"request_id": request_id, "method": "other", "path": "unknown", "status": status}
        about["error"] = type(exc).__name__
        monitoring.log.log(
            logging.ERROR if status == 500 else logging.INFO,
            "request",
            extra=about,
            exc_info=exc if status == 500 else None,
        )
        said = f"not HTTP as this service reads it: {reason.lower()}" if status < 500 else reason.lower()
        body = json.dumps({"error": said, "request_id": request_id}).encode() + b"\n"
        headers = {
            "Connection": "close", "Content-Type": "application/json", "Content-Length": len(body),
            "Cache-Control": "no-store", "X-Request-ID": request_id, **HEADERS,
        }  # fmt: skip
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        with contextlib.suppress(OSError):  # gone
            write_nonblock(client, f"HTTP/1.1 {status} {reason}\r\n{head}\r\n".encode() + body)

    def murder_pending(self) -> None:
        """End what is overdue; gunicorn's main loop calls this each second."""
        super().murder_pending()
        now = time.monotonic()
        for conn, deadline in list(self._reading.items()):
            if now > deadline:
                self._reading.pop(conn, None)
                with contextlib.suppress(OSError):  # closed meanwhile
                    conn.sock.shutdown(socket.SHUT_RD)


def _last_where_malformed(req: Request, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Read chunks; end the connection after a malformed one, since nobody knows where the next request is."""
    try:
        yield from chunks
    except ParseException:
        req.force_close()
        raise


def _asks_health(connection: socket.socket) -> bool:
    """Whether a whole ``GET /health`` waits to be read; one that is half sent is like all others."""
    try:
        begin = connection.recv(4096, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except OSError:  # gone, or nothing there: a thread finds out
        return False
    return begin.startswith(b"GET /health ") and begin.endswith(b"\r\n\r\n")


def with_deadline(seconds: float) -> type[DeadlineWorker]:
    """Return the worker class with its deadline."""
    return type("DeadlineWorker", (DeadlineWorker,), {"receive_seconds": seconds})
