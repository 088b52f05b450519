"""Decode what may come from anyone: time and memory have a bound that no trick in a file moves.

What is `plain` is decoded here, at full speed. All else goes to a process that a limit on processor time
or memory ends (`leakfree.data.decoder`); the file is then refused with that reason. The limits grow with the
pixels that a header names, and those have a limit too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import warnings
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

#: Seconds on the clock for each second of processor time that a task has: a busy machine is no bomb.
_PATIENCE = 30
# A decoder gives memory back at once, and has one thread.
_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 20),
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


class DecodersBusyError(ImageError):
    """Too many unusual images wait to be decoded."""


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
    return _decoders().ask(asked, data, decoder.seconds_for(most), wait)


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

    def ask(self, asked: dict[str, Any], data: bytes, seconds: float) -> tuple[dict[str, Any], bytes] | None:
        """Return its answer; None where it ended before."""
        clock = threading.Timer(_PATIENCE * seconds, self.process.kill)
        clock.daemon = True
        clock.start()
        try:
            decoder.send(self.stdin, asked, data)
            return decoder.receive(self.stdout)
        except (OSError, ValueError):  # it ended while we wrote
            return None
        finally:
            clock.cancel()

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

    def __init__(self) -> None:
        self._slots = threading.BoundedSemaphore(most := available_cores() + 1)
        self._most = most
        self._idle: list[_Decoder] = []

    def start(self) -> None:
        while len(self._idle) < self._most:
            self._idle.append(_Decoder())

    def ask(
        self, asked: dict[str, Any], data: bytes, seconds: float, wait: float | None
    ) -> tuple[dict[str, Any], np.ndarray]:
        if not self._slots.acquire(timeout=wait):
            raise DecodersBusyError("many unusual images wait to be decoded")
        try:
            try:
                worker = self._idle.pop()
            except IndexError:
                worker = _Decoder()
            said = worker.ask(asked, data, seconds)
            if said is not None and "memory" not in said[0]:
                self._idle.append(worker)
            else:
                code = worker.end()
                self._idle.append(_Decoder())  # it loads while nobody waits for it
        finally:
            self._slots.release()
        if said is None:
            raise TooLargeError(_why(code))
        head, body = said
        for line in head["warnings"]:
            warnings.warn(line, RuntimeWarning, stacklevel=2)
        if "memory" in head:
            raise TooLargeError("takes more memory to decode than an image of its size needs")
        if "too_large" in head:
            raise TooLargeError(head["too_large"])
        if "refused" in head:
            raise ImageError(head["refused"])
        # Facts alone come without pixels.
        return head["facts"], np.frombuffer(body, np.uint8).reshape(head.get("shape", (0,)))


def _why(code: int) -> str:
    if code in (-getattr(signal, "SIGPROF", 0), -getattr(signal, "SIGKILL", 0)):
        return "takes longer to decode than an image of its size needs"
    return f"its decoder ended with {signal.Signals(-code).name if code < 0 else f'code {code}'}"


_kept: _Decoders | None = None
_keeping = threading.Lock()


def _decoders() -> _Decoders:
    global _kept
    with _keeping:
        if _kept is None:
            _kept = _Decoders()
        return _kept


def _after_fork() -> None:
    """Forget the parent's decoders: two processes that talk to one would get each other's answers."""
    global _kept, _keeping
    _kept, _keeping = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
