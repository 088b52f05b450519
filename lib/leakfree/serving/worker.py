"""A gunicorn worker that no slow sender can hold."""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import time
from concurrent import futures
from functools import partial
from typing import Any, ClassVar

from gunicorn.workers.gthread import TConn, ThreadWorker


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

    def murder_pending(self) -> None:
        """End what is overdue; gunicorn's main loop calls this each second."""
        super().murder_pending()
        now = time.monotonic()
        for conn, deadline in list(self._reading.items()):
            if now > deadline:
                self._reading.pop(conn, None)
                with contextlib.suppress(OSError):  # closed meanwhile
                    conn.sock.shutdown(socket.SHUT_RD)


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
