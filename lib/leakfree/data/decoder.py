"""The program that decodes one image after another under limits: ``python -m leakfree.data.decoder``.

It reads a task and an encoded image, or the name of a file, from standard input and answers on standard
output, until its input ends. `leakfree.data.bounded` starts it. A task that takes too much processor time
ends it by a signal; one that takes too much memory gets an answer, and then it ends.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import signal
import struct
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any

import numpy as np
from PIL import Image

from leakfree.data.held import let_go
from leakfree.data.images import MAX_PIXELS, ImageError, decode, to_grey
from leakfree.data.intake import Limits, TooLargeError, check, read_header

try:
    import resource
except ImportError:  # Windows: the parent's clock is the only limit there
    resource = None  # type: ignore[assignment]

#: Processor seconds to read the header, and what each million of pixels that it names adds.
SECONDS, SECONDS_A_MEGAPIXEL = 1.0, 0.2
#: Bytes that a task may take beside its file, and for each pixel: float64, a copy, and masks.
MEMORY, MEMORY_A_PIXEL = 192 << 20, 40
#: Most bytes of one encoded picture: one of all pixels that are taken, in 32 bits.
MOST_BYTES = 4 * MAX_PIXELS
#: Bytes of pictures after which an answer is sent: the rest of a file is asked for again.
_ENOUGH = 32 << 20

_SIZES = struct.Struct(">IQ")


def facts(data: bytes) -> tuple[dict[str, Any], np.ndarray | None]:
    """Decode, and tell width, height and mode only."""
    return vars(decode(data)[0]), None


def grey(data: bytes) -> tuple[dict[str, Any], np.ndarray | None]:
    """Decode; width, height and mode, and all pixels in grey."""
    told, image = decode(data)
    return vars(told), np.asarray(image)


def square(data: bytes, size: int) -> tuple[dict[str, Any], np.ndarray | None]:
    """Decode to grey and squash to a square."""
    return {}, to_grey(data, size)


def small(data: bytes, side: int) -> tuple[dict[str, Any], np.ndarray]:
    """Decode to grey and shrink to a longer side, with the image's own aspect."""
    image = decode(data)[1]
    image.thumbnail((side, side), Image.Resampling.BILINEAR)
    return {}, np.asarray(image)


def nothing(data: bytes) -> tuple[dict[str, Any], np.ndarray | None]:
    """Decode nothing: the header is all that is checked."""
    return {}, None


#: What can be asked for, by name.
TASKS: dict[str, Callable[..., tuple[dict[str, Any], np.ndarray | None]]] = {
    task.__name__: task for task in (facts, grey, square, small, nothing)
}


def called(asked: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Call a function of this package on a file; its answer as JSON."""
    function = getattr(_loaded(asked["module"]), asked["function"])
    _allow(asked["seconds"], asked["memory"])
    body = json.dumps(function(asked["path"], *asked["arguments"])).encode()
    if len(body) > asked["most"]:
        raise TooLargeError("says more than a file of its size holds: split it, or remove it")
    return {}, body


def pictures(asked: dict[str, Any]) -> tuple[dict[str, Any], bytes | bytearray]:
    """Read pictures of a file, until they are enough or one fails; of each its size, or why there is none."""
    told = _loaded(asked["module"]).read(asked["path"], asked["keys"])
    _allow(asked["seconds"], asked["memory"])
    said: list[int | str] = []
    body = bytearray()
    while len(said) < len(asked["keys"]) and len(body) < _ENOUGH:
        try:
            data = next(told, None)
        except Exception:
            if said:
                break  # it is asked for again, as the first one
            raise
        if data is None:
            raise ImageError("the file ends before it")
        if isinstance(data, bytes) and len(data) <= MOST_BYTES:
            said.append(len(data))
            body += data
        else:
            large = f"corrupt: more than {MOST_BYTES:,} bytes: no picture has so many"
            said.append(large if isinstance(data, bytes) else data.reason)
    return {"pictures": said}, body


def _loaded(name: str) -> Any:
    """Load a module, and the package that it reads with: they are not held against the file."""
    module = importlib.import_module(name)
    if package := getattr(module, "PACKAGE", ""):
        importlib.import_module(package)
    return module


#: What is asked of files that lie on disk, by name.
OF_FILES = {task.__name__: task for task in (called, pictures)}


def send(stream: IO[bytes], head: dict[str, Any], body: bytes | bytearray = b"") -> None:
    """Write one message: JSON, and bytes."""
    text = json.dumps(head).encode()
    stream.write(_SIZES.pack(len(text), len(body)) + text)
    stream.write(body)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    """Read one message; None where the stream ends before a whole one."""
    sizes = stream.read(_SIZES.size)
    if len(sizes) < _SIZES.size:
        return None
    of_text, of_body = _SIZES.unpack(sizes)
    text, body = stream.read(of_text), stream.read(of_body)
    return (json.loads(text), body) if len(text) == of_text and len(body) == of_body else None


def seconds_for(pixels: int) -> float:
    """Return the processor seconds that an image of so many pixels may take."""
    return SECONDS + SECONDS_A_MEGAPIXEL * pixels / 1e6


def _done(asked: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes | bytearray]:
    if asked["task"] in OF_FILES:
        let_go(asked["path"])
        return OF_FILES[asked["task"]](asked)
    _allow(SECONDS, MEMORY + 4 * len(data))
    limits = asked["limits"]
    image = read_header(data) if limits is None else check(data, Limits(**limits))
    pixels = image.width * image.height
    _allow(seconds_for(pixels), MEMORY + 4 * len(data) + MEMORY_A_PIXEL * pixels)
    with Image.open(io.BytesIO(data)) as again:
        # Another reader of Pillow, which is asked first, must not take it for something else.
        if (again.format, again.size) != (image.format, image.size):
            raise ImageError(f"reads as {image.format} and as {again.format}: no image is both")
    told, array = TASKS[asked["task"]](data, *asked["arguments"])
    if array is None:
        return {"facts": told}, b""
    return {"facts": told, "shape": array.shape}, np.ascontiguousarray(array).tobytes()


def _answer(asked: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes | bytearray]:
    if asked["task"] in OF_FILES:
        with suppress(Exception):  # it fails again, and is told, below
            _loaded(asked["module"])
    began = time.process_time()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)  # what is still open is read on, see `held`
        try:
            head, body = _done(asked, data)
        except Exception as error:  # odd EXIF, palettes and modes raise as many types as decoders do
            kind = "too_large" if isinstance(error, TooLargeError) else "refused"
            kind = "memory" if _of_memory(error) else kind
            head, body = {kind: " ".join(str(error).split()) or type(error).__name__}, b""
    _allow(None, None)
    told = sorted({f"{warning.category.__name__}: {warning.message}"[:300] for warning in warned})
    if asked["task"] in OF_FILES:
        head["seconds"] = time.process_time() - began
    return {**head, "warnings": told[:5]}, body


def _of_memory(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, MemoryError):
        error = error.__cause__ or error.__context__
    return error is not None


def _allow(seconds: float | None, memory: int | None) -> None:
    """Allow so much processor time from now, and so much memory beside what is held; None: no limit."""
    if resource is None:
        return
    signal.setitimer(signal.ITIMER_PROF, seconds or 0)
    with suppress(OSError, ValueError):  # a system without this file, or without this limit
        with open("/proc/self/statm", encoding="ascii") as stream:
            held = int(stream.read().split()[0]) * resource.getpagesize()
        most = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (most if memory is None else held + memory, most))


def main() -> int:
    """Answer until the input ends."""
    stdin, stdout = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing that a library prints gets between the answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, which closes our input
    if resource is not None:
        os.nice(5)  # where there are too few cores, what is cheap to decode is not kept waiting
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as stream:
        stream.write("800")  # where memory runs out all the same, it is this process that goes
    while (message := receive(stdin)) is not None:
        head, body = _answer(*message)
        send(stdout, head, body)
        if "memory" in head:
            break  # what is left of the heap is not worth going on with
    return 0


if __name__ == "__main__":
    sys.exit(main())
