"""Decode what may come from anyone: time and memory have a bound that no trick in a file moves.

What is `plain` is decoded here, at full speed. All else goes to a process that a limit on processor time
or memory ends (`leakfree.data.decoder`); the file is then refused with that reason. The limits of an image
grow with the pixels that a header names, and those have a limit too. The limits of a file that holds images
in another way, or a table, grow with its size on disk alone: what is inside is not believed.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from leakfree.base.parallel import available_cores
from leakfree.data import decoder, images
from leakfree.data.images import ImageError, ImageFacts
from leakfree.data.intake import Limits, TooLargeError, check, check_bytes
from leakfree.data.plain import plain

#: Processor seconds to read all of a file that holds images, and what each million of its bytes adds.
FILE_SECONDS, FILE_SECONDS_A_MEGABYTE = 10.0, 5.0
#: Bytes of memory that it may take, and for each byte of the file. Files that may take more than the second
#: number have one process together, and no more than half of the machine.
FILE_MEMORY, FILE_LARGE, FILE_MEMORY_A_BYTE = 1 << 30, 2 << 30, 8
#: Bytes that a file may say of its images, or a table of its cells, and for each byte of the file.
FILE_SAYS, FILE_SAYS_A_BYTE = 64 << 20, 8
#: Seconds on the clock for each second of processor time that a task has: a busy machine is no bomb.
_PATIENCE = 30
# A decoder gives memory back at once, and has one thread.
_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 20),
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",  # others reserve more addresses than they use
}


class DecodersBusyError(ImageError):
    """Too many unusual images wait to be decoded."""


class SilentError(TooLargeError):
    """No answer came in the time on the clock, although that of the processor was not used up."""


def facts(data: bytes) -> ImageFacts:
    """Decode an image completely and return its facts; raises `ImageError`."""
    return images.inspect(data) if _is_plain(data) else ImageFacts(**_asked("facts", data)[0])


def decode(data: bytes) -> tuple[ImageFacts, Image.Image]:
    """Return the facts of an image and its grey pixels, see `leakfree.data.images.decode`."""
    if _is_plain(data):
        return images.decode(data)
    told, array = _asked("grey", data)
    return ImageFacts(**told), Image.fromarray(array)


def to_square(
    data: bytes, size: int, limits: Limits | None = None, *, wait: float | None = None
) -> np.ndarray:
    """Decode to a grey square, as `leakfree.data.images.to_grey`.

    Parameters
    ----------
    data : bytes
        Encoded file.
    size : int
        Side in pixels.
    limits : Limits, optional
        What is checked before, on what is then decoded.
    wait : float, optional
        Seconds that an image that is not plain waits for its turn; by default as long as it takes.

    Returns
    -------
    numpy.ndarray of uint8, shape (size, size)

    Raises
    ------
    leakfree.data.intake.TooLargeError
        If it is over a limit, or decoding it is.
    leakfree.data.images.ImageError
        If it is no usable image.
    DecodersBusyError
        If it waited too long.
    """
    if _is_plain(data, limits):
        return images.to_grey(data, size)
    return _asked("square", data, size, limits=limits, wait=wait)[1]


def shrunk(data: bytes, side: int, limits: Limits | None = None, *, wait: float | None = None) -> Image.Image:
    """Decode to grey and shrink to a longer side in pixels; otherwise as `to_square`."""
    if _is_plain(data, limits):
        return Image.fromarray(decoder.small(data, side)[1])
    return Image.fromarray(_asked("small", data, side, limits=limits, wait=wait)[1])


def check_bounded(data: bytes, limits: Limits) -> None:
    """Check as `leakfree.data.intake.check`, which reading some headers would keep busy for long."""
    if not _is_plain(data, limits):
        _asked("nothing", data, limits=limits)


def call(
    module: str,
    function: str,
    path: str,
    *arguments: Any,
    memory_a_byte: int = FILE_MEMORY_A_BYTE,
    clock: float | None = None,
) -> Any:
    """Call a function of leakfree on a file that is not trusted, in a process with limits.

    Parameters
    ----------
    module, function : str
    path : str
        The file or folder, which is the first argument; the limits go by its size on disk. An address has no
        size: each call has `FILE_SECONDS`, and half of the machine's memory.
    *arguments
        Further arguments, as JSON has them.
    memory_a_byte : int
        Of the file.
    clock : float, optional
        Seconds on the clock; by default many for each second of processor time.

    Returns
    -------
    object
        What the function returns, as JSON has it.

    Raises
    ------
    leakfree.data.intake.TooLargeError
        If that takes more time or memory, or gives more back, than a file of its size needs.
    leakfree.data.images.ImageError
        With the message of whatever the function raises.
    """
    asked = {"task": "called", "module": module, "function": function, "arguments": arguments}
    asked["path"] = _from_anywhere(path)
    body = _ask_of_file(asked, memory_a_byte, fresh=True, clock=clock)[1]
    return json.loads(body.tobytes())


def pictures(module: str, path: str, keys: Sequence[str]) -> Iterator[bytes | str]:
    """Read pictures of a file by the function ``read`` of a format, in a process with limits.

    All pictures of a file together have the time of one call: see `call`.

    Yields
    ------
    bytes or str
        An encoded picture, or the reason why there is none.
    """
    place = 0
    while place < len(keys):
        asked = {"task": "pictures", "module": module, "keys": keys[place:]}
        asked["path"] = _from_anywhere(path)
        try:
            head, body = _ask_of_file(asked)
        except ImageError as error:
            yield f"corrupt: {error}"
            place += 1
            continue
        at = 0
        for one in head["pictures"]:
            place += 1
            yield body[at : at + one].tobytes() if isinstance(one, int) else one
            at += one if isinstance(one, int) else 0


#: Processor seconds that are left to each file that was read.
_left: dict[tuple[str, int, int], float] = {}
#: A file is read by one process at a time, and by the one that has it open, if there is one.
_turns = tuple(threading.Lock() for _ in range(64))


def is_address(path: str) -> bool:
    """Whether a dataset is somewhere else, such as at ``hub://owner/name``."""
    return re.match(r"[a-z][a-z0-9+.-]+://", path) is not None


def _from_anywhere(path: str) -> str:
    """Return a path that holds in a process that was started in another folder, where this one was before."""
    return path if is_address(path) else os.path.join(os.getcwd(), path)


def size_on_disk(path: str) -> int:
    """Return the bytes of a file, or of all files of a folder, that are on disk: a hole in a file is not."""
    stat = os.stat(path)
    if os.path.isdir(path):
        names = [os.path.join(folder, name) for folder, _, files in os.walk(path) for name in files]
        return sum(size_on_disk(name) for name in names if os.path.isfile(name))
    blocks = getattr(stat, "st_blocks", 0) * 512
    return min(stat.st_size, blocks) if blocks else stat.st_size  # a few systems count no blocks at all


def _ask_of_file(
    asked: dict[str, Any],
    memory_a_byte: int = FILE_MEMORY_A_BYTE,
    *,
    fresh: bool = False,
    clock: float | None = None,
) -> tuple[dict[str, Any], np.ndarray]:
    """Ask for a task on a file, within the limits that its size on disk sets."""
    path = asked["path"]
    if is_address(path):
        key, size, memory, what = (path, 0, 0), 0, _ALL_MEMORY, _PART
    else:
        try:
            stat, size = os.stat(path), size_on_disk(path)
        except (OSError, ValueError) as error:
            raise ImageError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
        key, memory, what = (path, stat.st_size, stat.st_mtime_ns), FILE_MEMORY + memory_a_byte * size, _FILE
    large = memory > FILE_LARGE
    if large and hasattr(os, "sysconf"):
        memory = min(memory, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    with _turns[hash(path) % len(_turns)]:
        if fresh or key not in _left:
            _left[key] = FILE_SECONDS + FILE_SECONDS_A_MEGABYTE * size / 1e6
        if (seconds := _left[key]) <= 0:
            raise TooLargeError(_SLOW.format(what))
        most = FILE_SAYS + FILE_SAYS_A_BYTE * size
        asked = {**asked, "seconds": seconds, "memory": memory, "most": most}
        _left[key] = 0.0  # unless an answer comes
        head, body = _decoders(large=large).ask(asked, b"", seconds, path=path, clock=clock, what=what)
        _left[key] = seconds - head["seconds"] - ("memory" in head)  # another process has to start
    _refuse(head, what)
    return head, np.frombuffer(body, np.uint8)


def start() -> None:
    """Start the decoders now, so that nobody waits for them later."""
    _decoders().start()


def _is_plain(data: bytes, limits: Limits | None = None) -> bool:
    """Whether `data` may be decoded here; refuses what is over the limits."""
    if limits is not None:
        check_bytes(data, limits)
    if not plain(data):
        return False
    if limits is not None:
        check(data, limits)
    return True


def _asked(
    task: str, data: bytes, *arguments: int, limits: Limits | None = None, wait: float | None = None
) -> tuple[dict[str, Any], np.ndarray]:
    told = None if limits is None else asdict(limits)
    asked = {"task": task, "arguments": arguments, "limits": told}
    # The header's pixels are not known here; the decoder's own clock follows them.
    most = images.MAX_PIXELS if limits is None else limits.pixels
    head, body = _decoders().ask(asked, data, decoder.seconds_for(most), wait)
    _refuse(head, _IMAGE)
    # Facts alone come without pixels.
    return head["facts"], np.frombuffer(body, np.uint8).reshape(head.get("shape", (0,)))


class _Decoder:
    """One process that decodes."""

    def __init__(self) -> None:
        root = str(Path(__file__).resolve().parents[1])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        # -P: a file numpy.py in the folder of the images is not what is imported.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "leakfree.data.decoder"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": path},
        )
        assert process.stdin is not None and process.stdout is not None
        self.process, self.stdin, self.stdout = process, process.stdin, process.stdout
        #: File that it may have open, and whether the clock ended it.
        self.path, self.late = "", False

    def ask(self, asked: dict[str, Any], data: bytes, clock: float) -> tuple[dict[str, Any], bytes] | None:
        """Return its answer; None where it ended before."""
        timer = threading.Timer(clock, self._late)
        timer.daemon = True
        timer.start()
        try:
            decoder.send(self.stdin, asked, data)
            return decoder.receive(self.stdout)
        except (OSError, ValueError):  # it ended while we wrote
            return None
        finally:
            timer.cancel()

    def _late(self) -> None:
        self.late = True
        self.process.kill()

    def end(self) -> int:
        """End it; return its exit code, negative for a signal."""
        for stream in (self.stdin, self.stdout):
            with suppress(OSError):  # what was not sent yet has no reader any more
                stream.close()
        try:
            return self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


class _Decoders:
    """One decoder more than there are cores; one that ended is replaced."""

    def __init__(self, most: int = 0) -> None:
        self._most = most or available_cores() + 1
        self._slots = threading.BoundedSemaphore(self._most)
        self._taking = threading.Lock()
        self._idle: list[_Decoder] = []

    def start(self) -> None:
        while len(self._idle) < self._most:
            self._idle.append(_Decoder())

    def ask(
        self,
        asked: dict[str, Any],
        data: bytes,
        seconds: float,
        wait: float | None = None,
        path: str = "",
        clock: float | None = None,
        what: str = "",
    ) -> tuple[dict[str, Any], bytes]:
        """Return the answer of a process, see `_refuse`; raises where it ended before."""
        if not self._slots.acquire(timeout=wait):
            raise DecodersBusyError("many unusual images wait to be decoded")
        try:
            worker = self._free(path)
            said = worker.ask(asked, data, _PATIENCE * seconds if clock is None else clock)
            if said is not None and "memory" not in said[0]:
                self._idle.append(worker)
            else:
                code = worker.end()
                self._idle.append(_Decoder())  # it loads while nobody waits for it
        finally:
            self._slots.release()
        if said is None:
            raise (SilentError if worker.late else TooLargeError)(_why(code, what or _IMAGE))
        for line in said[0]["warnings"]:
            warnings.warn(line, RuntimeWarning, stacklevel=2)
        return said

    def _free(self, path: str) -> _Decoder:
        """Take a process that waits: the one that has the file open, or none; else the last, or a new one."""
        with self._taking:
            found = [worker for worker in self._idle if worker.path == path] or self._idle[-1:]
            if found:
                self._idle.remove(found[0])
        worker = found[0] if found else _Decoder()
        worker.path = path or worker.path
        return worker


_IMAGE, _FILE = "an image of its size needs", "a file of its size needs: split or unpack it, or remove it"
_PART = "a few rows of a dataset may"
#: What is at an address may take as much as the largest file.
_ALL_MEMORY = 1 << 40
_SLOW = "takes longer to decode than {}"


def _refuse(head: dict[str, Any], what: str) -> None:
    """Raise what an answer says."""
    if "memory" in head:
        raise TooLargeError(f"takes more memory to decode than {what}")
    if "too_large" in head:
        raise TooLargeError(head["too_large"])
    if "refused" in head:
        raise ImageError(head["refused"])


def _why(code: int, what: str) -> str:
    if code in (-getattr(signal, "SIGPROF", 0), -getattr(signal, "SIGKILL", 0)):
        return _SLOW.format(what)
    return f"its decoder ended with {signal.Signals(-code).name if code < 0 else f'code {code}'}"


_kept: _Decoders | None = None
_kept_large: _Decoders | None = None
_keeping = threading.Lock()


def _decoders(*, large: bool = False) -> _Decoders:
    global _kept, _kept_large
    with _keeping:
        if large:
            _kept_large = _kept_large or _Decoders(1)
            return _kept_large
        _kept = _kept or _Decoders()
        return _kept


def _after_fork() -> None:
    """Forget the parent's decoders: two processes that talk to one would get each other's answers."""
    global _kept, _kept_large, _keeping, _turns
    _kept, _kept_large, _keeping = None, None, threading.Lock()
    _turns = tuple(threading.Lock() for _ in _turns)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
