"""The number format that networks compute in: decided here for training, scores, predictions and benchmarks.

bfloat16 halves the memory that a network moves, and processors with instructions for it (AMX, AVX512-BF16,
those of ARM) train faster in it. A processor without them computes it by software, up to twelve times slower
than float32. Embeddings (`leakfree_study.models.embeddings`) are float32 everywhere: an image should have
the same features on every processor.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from leakfree.base.errors import LeakfreeError

if TYPE_CHECKING:  # whoever only asks for the setting is spared the import
    import torch

#: What may be asked for. ``auto`` is bfloat16 where it is native, else float32.
Precision = Literal["auto", "bfloat16", "float32"]
PRECISIONS = ("auto", "bfloat16", "float32")
#: Environment variable that sets the precision of all networks of a command: one of `PRECISIONS`.
SETTING = "LEAKFREE_PRECISION"
#: Most by which two probabilities of one image may differ, by the same weights, precision and processor: a
#: kernel may sum in another order when the image has other neighbours in its batch.
SAME_PROBABILITY = 1e-5

#: Instructions that multiply bfloat16, as PyTorch names them. AVX-512 alone is not among them: oneDNN reports
#: support there, and converts every number to float32 and back.
_NATIVE = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")


class PrecisionError(LeakfreeError, ValueError):
    """A precision that does not exist was asked for; the message is one line."""


def forced() -> str | None:
    """Return the precision that the environment forces, None where it forces none.

    Raises
    ------
    PrecisionError
        If `SETTING` is not one of `PRECISIONS`.
    """
    wanted = _known(os.environ.get(SETTING) or "auto", SETTING)
    return None if wanted == "auto" else wanted


def resolve(precision: Precision = "auto", device: str = "cpu") -> str:
    """Return the precision that a network computes in.

    Parameters
    ----------
    precision : {"auto", "bfloat16", "float32"}
        What the caller asks for; ``auto`` takes what the environment forces, else what the device does best.
    device : str
        Type of the device, ``cpu`` or ``cuda``.

    Returns
    -------
    str
        ``bfloat16`` or ``float32``.

    Raises
    ------
    PrecisionError
        If `precision`, or what the environment says, is not one of `PRECISIONS`.

    Examples
    --------
    >>> resolve("float32")
    'float32'
    """
    wanted = _known(precision, "precision")
    if wanted == "auto":
        wanted = forced() or ("bfloat16" if bfloat16_is_native(device) else "float32")
    return wanted


def bfloat16_is_native(device: str = "cpu") -> bool:
    """Return whether a device has instructions for bfloat16, and PyTorch may use them.

    oneDNN is asked too, since ``ONEDNN_MAX_CPU_ISA`` hides instructions from it.
    """
    import torch

    if device == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    if not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return False
    has = torch.cpu.get_capabilities()
    return any(has.get(name, False) for name in _NATIVE)


def autocast(precision: str, device: str = "cpu") -> torch.autocast:
    """Return the context in which a network computes: bfloat16 by autocast, float32 as it is.

    Parameters
    ----------
    precision : {"bfloat16", "float32"}
        As `resolve` returns it.
    device : str
        Type of the device.
    """
    import torch

    return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")


def _known(precision: str, where: str) -> str:
    if precision not in PRECISIONS:
        raise PrecisionError(f"{where}: {precision!r} is no precision; known: {', '.join(PRECISIONS)}")
    return precision
