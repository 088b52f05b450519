"""Where images come from: a folder, the Deep Lake hub, the phantom, a study's own, or a store made before."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from leakfree.data.bounded import is_address
from leakfree.data.raw import Problem, RawImage, Source, SourceError

__all__ = ["HUB_ADDRESS", "Problem", "RawImage", "Source", "SourceError", "open_source"]

HUB_ADDRESS = "hub://activeloop/chest-xray-train"
#: Ends of the file of a study.
STUDY_FILES = (".yaml", ".yml")
_PHANTOM = re.compile(r"phantom(?::(\d+))?")


def is_place(data: str) -> bool:
    """Tell whether ``--data`` is a file or folder that is there, and no word or address."""
    return not (_PHANTOM.fullmatch(data) or data == "hub" or is_address(data)) and Path(data).exists()


def open_source(data: str, **options: Any) -> Source:
    """Turn the value of ``--data`` into a source.

    Parameters
    ----------
    data : str
        ``phantom``, ``phantom:N`` for one of N images, ``hub``, an address such as ``hub://owner/name`` (any
        scheme that Deep Lake reads),
        a Deep Lake dataset in the hub's format, a folder of images, or the file of a study on own images.
    **options
        Settings of the phantom, or ``token`` for the hub.

    Raises
    ------
    SourceError
        If nothing usable is there.
    """
    if phantom := _PHANTOM.fullmatch(data):
        from leakfree.data.sources.phantom import PhantomSettings, PhantomSource

        return PhantomSource(
            PhantomSettings(**({"n_images": int(phantom[1])} if phantom[1] else {}), **options)
        )
    from leakfree.data.sources.hub import HubSource, is_deeplake

    if data == "hub":
        return HubSource(HUB_ADDRESS, **options)
    if is_address(data):
        return HubSource(data, **options)
    path = Path(data)
    if not path.exists():
        raise SourceError(f"{data}: no such file or folder")
    if path.is_file() and path.suffix.lower() in STUDY_FILES:
        from leakfree.data.sources.own import OwnSource

        return OwnSource(path)
    if not path.is_dir():
        raise SourceError(
            f"{data}: is a file; a folder of images, a Deep Lake dataset or a study.yaml is needed: "
            f"`leakfree new` makes one of any images that `leakfree audit` opens"
        )
    if is_deeplake(path):
        return HubSource(str(path), **options)
    from leakfree.data.sources.folder import FolderSource

    return FolderSource(path)
