"""Pictures of a target's images for the report."""

from __future__ import annotations

from PIL import Image

from leakfree.audit.copies.scan import Scan
from leakfree.audit.target import Target
from leakfree.data.bounded import decode
from leakfree.data.images import ImageError


class Pictures:
    """Reads an image of a target by its id, and says in a few words what it is."""

    def __init__(self, target: Target, read: Scan) -> None:
        self._reader = target.reader
        self._table = read.table
        self._row = dict(zip(read.table["image_id"], range(len(read.table)), strict=True))
        self._position = read.rows

    def picture(self, image_id: str) -> Image.Image | None:
        """Return the grey image, None if it cannot be read any more."""
        data = next(iter(self._reader.read([int(self._position[self._row[image_id]])])))
        try:
            return decode(data)[1] if isinstance(data, bytes) else None
        except ImageError:  # changed since it was audited
            return None

    def describe(self, image_id: str) -> str:
        """Part, label and size."""
        row = self._table.iloc[self._row[image_id]]
        words = [row["part"] or "no part", row["label"], f"{row['width']} x {row['height']} px"]
        return ", ".join(word for word in words if word)
