"""``run_all.py --data`` on images that are not laid out as chest_xray: understood, or refused."""

import io
import json
import logging
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import eyes
from deferred import deferred
from leakfree.data.open import needs_study
from leakfree.data.study_file import read_study

with deferred:
    from leakfree.data.patients import SUBJECT
    from leakfree_study.compendium import own_runs, study

ROWS = [(f"patient{patient:02d}", label, number, data) for patient, _, number, label, data in eyes.cohort(9)]
PATIENTS = len({patient for patient, *_ in ROWS})
KINDS = ("zip", "tar", "csv", "folder", "dicom", "parquet", "hdf5")


@pytest.fixture(autouse=True)
def quiet_logging():
    """Undo what `main` does to the loggers of this process."""
    names = (None, "leakfree", "papermill")
    before = [(log := logging.getLogger(n), log.level, log.handlers[:], log.filters[:]) for n in names]
    yield
    for log, level, handlers, filters in before:
        log.setLevel(level)
        log.handlers[:], log.filters[:] = handlers, filters


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """A function that runs the command line without notebooks: exit code, what ran, output and complaint."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEAKFREE_CACHE", str(tmp_path / "cache"))
    ran = []
    monkeypatch.setattr(study, "_run_in", lambda folder, settings, cohort, *_: ran.append((folder, cohort)))

    def call(*arguments):
        ran.clear()
        code = study.main(["--no-book", *map(str, arguments)])
        told = capfd.readouterr()
        return code, list(ran), told.out, [x for x in told.err.splitlines() if x.startswith("run_all:")]

    return call


def grey(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("L"))


def write(kind, root, rows=ROWS):
    """Write the images as one kind of file, with classes and patients; return what ``--data`` names."""
    root.mkdir()
    names = [f"{label}/{patient}/{number}.png" for patient, label, number, _ in rows]
    if kind == "zip":
        with zipfile.ZipFile(root / "eyes.zip", "w") as archive:
            for name, (*_, data) in zip(names, rows, strict=True):
                archive.writestr(name, data)
    elif kind == "tar":
        with tarfile.open(root / "eyes.tar", "w") as archive:
            for k, (patient, label, _, data) in enumerate(rows):
                about = json.dumps({"patient": patient}).encode()
                for ending, content in (("png", data), ("cls", label.encode()), ("json", about)):
                    entry = tarfile.TarInfo(f"{k:06d}.{ending}")
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
    elif kind == "csv":
        lines = [f"{k}.png,{label},{patient}" for k, (patient, label, *_) in enumerate(rows)]
        for k, (*_, data) in enumerate(rows):
            (root / f"{k}.png").write_bytes(data)
        (root / "eyes.csv").write_text("\n".join(["image,label,patient_id", *lines]), encoding="utf-8")
    elif kind == "folder":
        for name, (*_, data) in zip(names, rows, strict=True):
            path = root / "eyes" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return root / "eyes"
    elif kind == "dicom":
        for k, (patient, label, _, data) in enumerate(rows):
            write_dicom(root / "eyes" / label / f"{k}.dcm", grey(data), patient)
        return root / "eyes"
    elif kind == "parquet":
        pa = pytest.importorskip("pyarrow")
        import pyarrow.parquet as pq

        columns = {
            "image": [{"bytes": data, "path": None} for *_, data in rows],
            "label": [label for _, label, *_ in rows],
            "patient_id": [patient for patient, *_ in rows],
        }
        pq.write_table(pa.table(columns), root / "eyes.parquet")
    elif kind == "hdf5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(root / "eyes_x.h5", "w") as file:
            file["x"] = np.stack([grey(data) for *_, data in rows])
            file["y"] = np.array([eyes.LABELS.index(label) for _, label, *_ in rows])
        lines = [f"{k},{patient}" for k, (patient, *_) in enumerate(rows)]
        (root / "eyes_meta.csv").write_text("\n".join(["x,patient_id", *lines]), encoding="utf-8")
        return root / "eyes_x.h5"
    elif kind == "npz":
        labels = np.array([eyes.LABELS.index(label) for _, label, *_ in rows])
        np.savez(root / "eyes.npz", train_images=np.stack([grey(d) for *_, d in rows]), train_labels=labels)
    return next(path for path in root.iterdir() if path.stem == "eyes")


def write_dicom(path, pixels, patient):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", generate_uid()
    data.PatientID, data.Modality, data.StudyInstanceUID = patient, "OP", generate_uid()
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.PixelData = pixels.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_understood_runs_as_a_study_of_its_own(tmp_path, run, kind):
    data = write(kind, tmp_path / "given")
    code, ran, out, err = run("--data", data, "--profile", "smoke")
    assert err == [] and code == 0
    ((folder, cohort),) = ran
    name = f"{data.stem}-study"
    assert folder == Path(name, "run")
    labels = ("0", "1", "2") if kind == "hdf5" else eyes.LABELS
    assert cohort.study.labels == labels and cohort.study.profile == "smoke"
    assert len(cohort) == len(ROWS) and set(cohort.table["label"]) == set(labels)
    assert cohort.table[SUBJECT].nunique() == PATIENTS and (cohort.table[SUBJECT] != "").all()
    # What was guessed is printed.
    assert "How the input was read:" in out and f"for all {len(ROWS)} images" in out
    assert f"Patients: {PATIENTS} named by {len(ROWS)} images" in out
    # The study file is the one that `leakfree new` writes, and it can be run itself.
    assert read_study(tmp_path / name / "study.yaml") == cohort.study
    assert (tmp_path / name / "audit.json").is_file()


@pytest.mark.parametrize(
    ("kind", "rows", "told"),
    [
        ("npz", ROWS, f"nothing tells the patient of {len(ROWS)} of {len(ROWS)} images"),
        (
            "csv",
            [(p if k else "", *r) for k, (p, *r) in enumerate(ROWS)],
            "nothing tells the patient of 1 of",
        ),
        ("csv", [(p, "", *r) for p, _, *r in ROWS], "nothing tells the label of"),
        ("csv", [row for row in ROWS if row[1] == "mild"], "only the label mild was found"),
    ],
)
def test_what_is_not_understood_is_one_line_with_the_command_that_says_it(tmp_path, run, kind, rows, told):
    data = write(kind, tmp_path / "given", rows)
    for _ in range(2):  # the first try leaves nothing behind that the second would take for an answer
        code, ran, out, err = run("--data", data)
        assert (code, ran, out) == (2, [], "")
        (line,) = err
        assert told in line
        assert f"leakfree new {data} [--csv TABLE] [--label-column C] [--patient-column C" in line
        assert not (tmp_path / "eyes-study").exists()


def test_a_file_that_holds_no_images_is_refused(tmp_path, run):
    for name in ("notes.txt", "notes.py"):
        path = tmp_path / "given" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("nothing", encoding="utf-8")
        code, ran, _, (line,) = run("--data", path)
        assert (code, ran) == (2, []), name
        assert f"leakfree new {path} [--csv TABLE]" in line


def test_the_study_that_stands_is_taken_with_what_its_owner_said(tmp_path, run, monkeypatch):
    data = write("npz", tmp_path / "given")
    from leakfree.cli import main

    # Without patients each image is its own: somebody said so.
    assert main(["new", str(data)]) == 0
    path = tmp_path / "eyes-study" / "study.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("profile: quick", "profile: smoke"))
    monkeypatch.setattr(own_runs, "begin_study", lambda *_, **__: pytest.fail("begun anew"))
    monkeypatch.setattr(study, "begin_study", lambda *_, **__: pytest.fail("begun anew"))
    code, ran, out, err = run("--data", data)
    assert (code, err) == (0, [])
    assert ran[0][1].study == read_study(path) and "its study is eyes-study/study.yaml" in out
    assert study.parse(["--data", str(data)]).profile == "smoke"


def test_a_study_of_other_images_of_that_name_is_not_taken(tmp_path, run):
    first = write("zip", tmp_path / "given")
    assert run("--data", first)[0] == 0
    (tmp_path / "other").mkdir()
    second = Path(shutil.copy(first, tmp_path / "other"))
    code, ran, out, (line,) = run("--data", second)
    assert (code, ran, out) == (2, [], "")
    assert "a study of other images is here" in line and f"leakfree new {second} --out DIR" in line


@pytest.mark.parametrize(
    ("files", "needed"),
    [
        (["train/NORMAL/a.png", "test/PNEUMONIA/person1_virus_1.jpeg"], False),
        (["BACTERIA-1008087-0001.jpeg"], False),
        ([f"NORMAL/{k}.png" for k in range(10)] + ["stray.png", "notes.txt"], False),
        (["Normal/a.png", "COVID/b.png", "Lung_Opacity/c.png"], True),
        (["healthy/a.png", "ill/b.png"], True),
        (["NORMAL/a.dcm"], True),
        (["notes.txt"], True),
        ([], False),
    ],
)
def test_a_folder_of_chest_xray_needs_no_study_file_and_any_other_does(write_folder, tmp_path, files, needed):
    root = write_folder(dict.fromkeys(files, b"x")) if files else tmp_path
    assert needs_study(str(root)) == needed


@pytest.mark.parametrize(("data", "needed"), [("phantom", False), ("hub", False), ("phantom:30", False),
                                              ("hub://a/b", False), ("no/such", False), ("s.yaml", False),
                                              ("s.npz", True)])  # fmt: skip
def test_names_of_cohorts_need_no_study_file(tmp_path, monkeypatch, data, needed):
    monkeypatch.chdir(tmp_path)
    for name in ("s.yaml", "s.npz", "phantom", "hub"):
        Path(name).write_bytes(b"")
    assert needs_study(data) == needed
