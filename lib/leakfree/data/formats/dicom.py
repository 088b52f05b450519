"""DICOM: the picture as a reader sees it, and patient, study and device from the header, kept in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from leakfree.data.files import DICOM_SUFFIXES
from leakfree.data.formats.base import FormatError, encoded, volume
from leakfree.data.raw import Item, Problem
from leakfree.data.reading.patient_ids import is_unknown

NAME, SUFFIXES, PACKAGE = "DICOM", tuple(sorted(DICOM_SUFFIXES)), "pydicom"
#: Fields of the header that are read beside the patient.
FIELDS = (
    "StudyInstanceUID", "SeriesInstanceUID", "Modality", "ViewPosition", "Manufacturer",
    "StationName", "StudyDate",
)  # fmt: skip
#: Before an id that comes from a header: reports show a number in its place.
HIDDEN = "header:"


def items(path: str, file: str) -> list[Item]:
    """List the one image of a file; a multi-frame file is one image with slices."""
    import pydicom

    try:
        tags = ["PatientID", "PatientName", "Rows", *FIELDS]
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags, force=False)
    except Exception as error:  # damaged headers raise many types
        raise FormatError(f"not a DICOM file: {' '.join(str(error).split())}") from error
    if "Rows" not in header:
        return []  # a report, a structure set, an index
    patient = str(header.get("PatientID") or header.get("PatientName") or "").strip()
    facts = tuple((name, str(header.get(name) or "").strip()) for name in FIELDS)
    hidden = "" if is_unknown(patient) else HIDDEN + patient
    return [Item(file, path, "dicom", "0", patient=hidden, facts=facts)]


def read(path: str, keys: Sequence[str]) -> Iterator[bytes | Problem]:
    """Yield the picture: modality and window applied, MONOCHROME1 turned, frames side by side."""
    import pydicom
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    header = pydicom.dcmread(path)
    values = header.pixel_array
    if header.get("SamplesPerPixel", 1) == 1:
        frames = values if values.ndim == 3 else values[None]

        def seen(k: int) -> np.ndarray:
            shown = apply_voi_lut(apply_modality_lut(frames[k], header), header)
            return np.asarray(shown, dtype=np.float64)

        turned = header.get("PhotometricInterpretation") == "MONOCHROME1"
        values = volume(seen, len(frames), turned=turned)
    elif values.ndim == 4:
        values = values[len(values) // 2]
    for _ in keys:
        yield encoded(values)
