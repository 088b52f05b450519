"""Values that are kept between runs in one file of the user's cache folder, each with a checksum.

A value that is damaged, or a file that cannot be used, is told in one line and made again: what is kept saves
time and decides nothing.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from leakfree.base.escape import say
from leakfree.base.paths import user_cache

#: Bytes that are kept, at most: about a million images, or 150,000 with the keypoints of a thorough audit.
MOST = 2 << 30
#: Seconds for which a file must have been left alone: on a coarse clock a later change has the same time.
SETTLED = 2.0
_CHECK = 8
_DAY = 86400
# Another process holds it, or the disk is read-only, full or broken: no reason to throw it away.
_NOT_ITS_FAULT = {5, 6, 8, 10, 13, 14}  # SQLITE_BUSY, LOCKED, READONLY, IOERR, FULL, CANTOPEN


class Kept:
    """Values by key, in a file of SQLite; ``get`` of what is not there, or is damaged, gives nothing.

    Parameters
    ----------
    path : pathlib.Path
    code : str
        Of what makes the values, see `leakfree.base.provenance.code_digest`: values of other code are
        other values.
    most : int
        Bytes that are kept; beyond them those that were not used for longest go.
    """

    def __init__(self, path: Path, code: str, most: int = MOST) -> None:
        self._path, self._code, self._most = Path(path), code.encode(), most
        self._today = int(time.time() // _DAY)
        self._damaged = 0
        self._store: sqlite3.Connection | None = None
        try:
            self._open()
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def _open(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # What is kept of a picture is nobody else's to read.
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        self._store = sqlite3.connect(self._path, timeout=10)
        self._store.text_factory = bytes  # what is not UTF-8 is damaged like all else
        self._store.execute("PRAGMA synchronous = OFF")  # what a power cut damages is made again
        self._store.execute(
            "CREATE TABLE IF NOT EXISTS kept (key BLOB PRIMARY KEY, used INTEGER, value BLOB)"
        )
        self._store.execute("SELECT key, used, value FROM kept LIMIT 1").fetchone()

    def _give_up(self, error: Exception) -> None:
        """Go on without; what is no such file, or is damaged, is removed and begun anew."""
        self.close()
        reason = " ".join(str(error).split())
        if (
            isinstance(error, sqlite3.Error)
            and (getattr(error, "sqlite_errorcode", 1) & 0xFF) not in _NOT_ITS_FAULT
        ):
            say(
                f"{self._path}: what was kept of earlier audits is damaged ({reason}); made again",
                file=sys.stderr,
            )
            try:
                self._path.unlink(missing_ok=True)
                self._open()
                return
            except (OSError, sqlite3.Error):
                self.close()
        else:
            say(f"{self._path}: nothing is kept for the next audit: {reason}", file=sys.stderr)

    def close(self) -> None:
        """Let go of the file."""
        store, self._store = self._store, None
        if store is not None:
            store.close()

    def key(self, *parts: object) -> bytes:
        """Return the key of a value that depends on these parts, and on the code."""
        return hashlib.blake2b(
            repr(parts).encode("utf-8", "surrogateescape"), digest_size=16, key=self._code[:64]
        ).digest()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the values that are there."""
        found: dict[bytes, bytes] = {}
        if self._store is None:
            return found
        old = []
        try:
            for key in keys:
                row = self._store.execute("SELECT used, value FROM kept WHERE key = ?", (key,)).fetchone()
                if row is None:
                    continue
                if not isinstance(row[1], bytes) or row[1][:_CHECK] != _check(key, row[1][_CHECK:]):
                    self._tell_damaged()
                    continue
                found[key] = row[1][_CHECK:]
                if row[0] != self._today:
                    old.append((self._today, key))
            if old:
                with self._store:
                    self._store.executemany("UPDATE kept SET used = ? WHERE key = ?", old)
        except sqlite3.Error as error:
            self._give_up(error)
        return found

    def _tell_damaged(self) -> None:
        if not self._damaged:
            say(f"{self._path}: a value that was kept is damaged; made again", file=sys.stderr)
        self._damaged += 1

    def put(self, values: Iterable[tuple[bytes, bytes]]) -> None:
        """Keep values."""
        if self._store is None:
            return
        try:
            with self._store:
                self._store.executemany(
                    "INSERT OR REPLACE INTO kept VALUES (?, ?, ?)",
                    ((key, self._today, _check(key, value) + value) for key, value in values),
                )
            while self.size() > self._most:
                with self._store:
                    self._store.execute(
                        "DELETE FROM kept WHERE rowid IN (SELECT rowid FROM kept ORDER BY used, rowid "
                        "LIMIT 1 + (SELECT COUNT(*) FROM kept) / 8)"
                    )
        except sqlite3.Error as error:
            self._give_up(error)

    def size(self) -> int:
        """Return the bytes that the values take."""
        if self._store is None:
            return 0
        page, pages, free = (
            self._store.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_size", "page_count", "freelist_count")
        )
        return page * (pages - free)


def _check(key: bytes, value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=_CHECK, key=key).digest()


@contextmanager
def keeping(wanted: bool, code: str) -> Iterator[Kept | None]:
    """Give what is kept for a user's audits; None where nothing is to be kept.

    ``LEAKFREE_NO_CACHE`` in the environment switches it off everywhere.
    """
    if not wanted or os.environ.get("LEAKFREE_NO_CACHE"):
        yield None
        return
    kept = Kept(user_cache() / "audit-1.sqlite", code)
    try:
        yield kept
    finally:
        kept.close()


@lru_cache(maxsize=1024)
def file_identity(path: str, now: float) -> tuple[object, ...] | None:
    """Say which file this is, and in which state; None where it changed just now, or cannot be asked.

    Parameters
    ----------
    path : str
    now : float
        Seconds since the epoch, the same for all images of a run: a file that holds many is asked once.
    """
    try:
        stat = os.stat(path)
    except (OSError, ValueError):
        return None
    if now - max(stat.st_mtime, stat.st_ctime) < SETTLED:
        return None
    # The time of its last change is not all: it can be set back.
    return os.path.abspath(path), stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
