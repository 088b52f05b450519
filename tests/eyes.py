"""Draw a small cohort of photographs of the back of the eye: nothing in it is a chest X-ray."""

import io

import numpy as np
from PIL import Image

LABELS = ("healthy", "mild", "severe")
SIZE = 48


def photograph(patient, label, image):
    """Draw one eye, RGB uint8: vessels and colour of the patient, bright spots of the disease."""
    own, rng = np.random.default_rng([7, patient]), np.random.default_rng([11, patient, image])
    y, x = np.mgrid[:SIZE, :SIZE] / (SIZE - 1) * 2 - 1
    inside = np.hypot(x, y) < 0.95
    picture = np.zeros((SIZE, SIZE, 3))
    # The eye moves and the light changes from one photograph to the next: siblings are alike, and no copies.
    light = 1 + rng.uniform(-0.4, 0.4) * x + rng.uniform(-0.4, 0.4) * y
    picture[inside] = own.uniform([150, 60, 20], [220, 110, 60]) + rng.uniform(-15, 15, 3)
    picture *= light[..., None]
    disc = own.uniform([-0.5, -0.3], [0.5, 0.3]) + rng.uniform(-0.35, 0.35, 2)
    picture += np.exp(-(((x - disc[0]) ** 2 + (y - disc[1]) ** 2) / 0.03))[..., None] * [90, 90, 60]
    for _ in range(5):
        slope, bend = own.uniform(-1.5, 1.5, 2) + rng.uniform(-0.5, 0.5, 2)
        vessel = np.abs(y - disc[1] - slope * (x - disc[0]) - bend * (x - disc[0]) ** 2) < 0.05
        picture[vessel & inside] *= 0.55
    for _ in range(4 * LABELS.index(label)):
        cx, cy = rng.uniform(-0.6, 0.6, 2)
        picture += np.exp(-(((x - cx) ** 2 + (y - cy) ** 2) / 0.008))[..., None] * [60, 110, 60]
    picture += rng.normal(0, 9, picture.shape)
    return Image.fromarray(np.clip(np.where(inside[..., None], picture, 0), 0, 255).astype(np.uint8))


def png(picture):
    """Encode as PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def cohort(patients=66, images=(1, 2, 3, 4)):
    """Yield (patient, side, number, label, bytes) of every photograph; labels and sizes take turns."""
    for patient in range(1, patients + 1):
        label = LABELS[patient % 3]
        for number in range(images[(patient // 3) % len(images)]):
            yield (
                patient,
                ("left", "right")[number % 2],
                number,
                label,
                png(photograph(patient, label, number)),
            )


def write_parts(root, patients=66):
    """Write ``part/label/eye_<patient>_<side>_<number>.png`` with planted leaks; return these.

    One patient stands in both parts, one photograph is copied into the test part under another patient's
    name, one file is no image, and one is no image by its name.
    """
    files, planted = {}, {}
    for patient, side, number, label, data in cohort(patients):
        part = "testing" if patient % 8 == 0 else "training"
        files[f"{part}/{label}/eye_{patient:04d}_{side}_{number}.png"] = data
    moved = next(f for f in sorted(files) if f.startswith("training/") and f.endswith("_1.png"))
    planted["moved"] = moved.replace("training", "testing").replace("_1.png", "_9.png")
    patient = int(moved.split("eye_")[1][:4])
    files[planted["moved"]] = png(photograph(patient, moved.split("/")[1], 9))
    planted["original"] = next(f for f in sorted(files) if f.startswith("training/severe"))
    planted["copy"] = "testing/severe/eye_0900_left_0.png"
    files[planted["copy"]] = files[planted["original"]]
    planted["unreadable"] = "training/mild/eye_0901_left_0.png"
    files[planted["unreadable"]] = b"this is no photograph"
    files["notes.txt"] = b"taken in spring"
    for file, data in files.items():
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return planted


def write_flat(root):
    """Write one folder and ``labels.csv`` with names without their ending and a column of patients."""
    root.mkdir(parents=True, exist_ok=True)
    lines = ["id_code,grade,subject"]
    for patient, side, number, label, data in cohort(24):
        name = f"{side}-{patient * 7919 % 1000:03d}-{number}"
        (root / f"{name}.png").write_bytes(data)
        lines.append(f"{name},{'healthy' if label == 'healthy' else 'ill'},P{patient}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
