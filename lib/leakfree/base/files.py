"""Atomic writes, content hashes of files, and arrays that are kept for the code that made them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # most who write a file have no array
    import numpy as np


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` that takes its place when the block ends without an error.

    A reader sees the old file or the whole new one, also when the writer is killed. A link is followed; what
    is no file, such as ``/dev/stdout`` or a pipe, is not replaced but written to.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder, path.name)
            temporary.touch()
            yield temporary
            with temporary.open("rb") as stream, path.open("wb") as target:
                shutil.copyfileobj(stream, target)
        return
    path = path.resolve() if path.is_symlink() else path
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def writable(path: Path) -> None:
    """Refuse a file to write before the work that would be lost; folders that are missing are made later.

    Raises
    ------
    OSError
        If it is a folder, cannot be written, or would need a new folder in the root of the file system.
    """
    path = Path(path).absolute()

    def refuse(number: int, place: Path) -> OSError:
        return OSError(number, os.strerror(number), str(place))

    if path.is_dir():
        raise refuse(errno.EISDIR, path)
    if path.exists() and not path.is_file():
        if not os.access(path, os.W_OK):
            raise refuse(errno.EACCES, path)
        return
    above = next(folder for folder in path.parents if os.path.lexists(folder))
    if not above.is_dir():
        raise refuse(errno.ENOTDIR, above)
    if above != path.parent and above == Path(above.anchor):
        raise refuse(errno.ENOENT, path.parent)
    if not os.access(above, os.W_OK | os.X_OK):
        raise refuse(errno.EACCES, above)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for one process; the system lets go of it when that process ends, however it ends.

    Raises
    ------
    BlockingIOError
        If another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows has no such lock
        yield
        return
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(error.errno, "another run writes into this folder", str(folder)) from error
        yield


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text with line feeds on every platform, atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))
    return Path(path)


def write_json(path: Path, content: object, *, sort_keys: bool = True) -> Path:
    """Write JSON atomically, with sorted keys unless their order says something."""
    return write_text(path, json.dumps(content, indent=1, sort_keys=sort_keys) + "\n")


def file_hash(path: Path, algorithm: Callable = hashlib.sha256) -> str:
    """Return the hex digest of a file's bytes."""
    digest = algorithm()
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def kept_arrays(
    path: Path, code: str, make: Callable[[], dict[str, np.ndarray]], what: str
) -> dict[str, np.ndarray]:
    """Read arrays back, or make and keep them where there are none that this code made.

    Parameters
    ----------
    path : pathlib.Path
        File; what other code made is replaced, so a change of code leaves no file behind.
    code : str
        Of what makes the arrays, see `leakfree.base.provenance.code_digest`.
    make : callable
        Returns the arrays by name.
    what : str
        What the arrays are, for the line that says why they are made again.
    """
    import numpy as np

    from leakfree.base.escape import say

    if path.exists():
        try:
            with np.load(path) as stored:
                arrays = {name: stored[name] for name in stored.files}
            if str(arrays.pop("code")) == code:
                return arrays
        except Exception as error:  # damaged: only worth making again
            say(f"{path.name}: {what} cannot be read ({error}); made again", file=sys.stderr)
    arrays = make()
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, code=np.array(code), **arrays)  # type: ignore[arg-type]  # by name, none of them an option
    return arrays
