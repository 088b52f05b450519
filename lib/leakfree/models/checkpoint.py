"""Where a training is kept after every epoch, so that one that is cut off goes on."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from leakfree.base.escape import say
from leakfree.base.files import replacing


@dataclass(frozen=True)
class Checkpoint:
    """A file for the state of one training.

    Attributes
    ----------
    path : pathlib.Path
        File; it holds tensors, numbers and text, and is read without unpickling anything else.
    key : str
        Of everything that the training depends on: a file with another key is not gone on with.
    """

    path: Path
    key: str

    def save(self, state: dict[str, Any]) -> None:
        """Write the state, whole or not at all."""
        with replacing(self.path) as temporary:
            torch.save({"key": self.key, **state}, temporary)

    def load(self) -> dict[str, Any] | None:
        """Read the state back; None where there is none that can be gone on with."""
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        except Exception as error:  # cut off, damaged or foreign: only worth training again
            reason = (str(error) or type(error).__name__).splitlines()[0]
            say(f"{self.path.name}: cannot be read ({reason}); training from the start", file=sys.stderr)
            return None
        return state if isinstance(state, dict) and state.get("key") == self.key else None

    def remove(self) -> None:
        """Delete the file: the training is finished."""
        self.path.unlink(missing_ok=True)
