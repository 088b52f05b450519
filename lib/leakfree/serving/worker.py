"""A gunicorn worker that no slow sender can hold."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import ClassVar

from gunicorn.workers.gthread import TConn, ThreadWorker


class DeadlineWorker(ThreadWorker):
    """A threaded worker that stops reading from a connection when a request has not arrived in time.

    gunicorn's own limit covers the first byte only: a sender of one byte a minute would hold a thread for as
    long as it liked. Reading ends for such a connection, writing does not: an answer that takes long to
    compute still goes out.
    """

    #: For a request to arrive whole; `with_deadline` sets it.
    receive_seconds: ClassVar[float] = 15.0

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self._reading: dict[TConn, float] = {}

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


def with_deadline(seconds: float) -> type[DeadlineWorker]:
    """Return the worker class with its deadline."""
    return type("DeadlineWorker", (DeadlineWorker,), {"receive_seconds": seconds})
