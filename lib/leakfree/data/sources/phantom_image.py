"""Drawing of one phantom chest X-ray: a pure function of strengths, label and two seeds.

Every anatomical quantity is a standard normal latent, mixed from a draw of the patient and one of the image::

    z = sqrt(min(s, 1)) * z_patient * max(s, 1) + sqrt(1 - min(s, 1)) * z_image

with the identity strength ``s``. Up to ``s`` = 1 the marginal distribution of one image is therefore the same
for every ``s``, and only the correlation between the images of a patient grows; at 0 they are exchangeable
with images of other patients of the same label.

Coordinates are x to the right and y down, both from -1 to 1 over the image. The patient faces the viewer, so
the heart lies on the image's right. The image is drawn on a square grid, as the published chest X-rays look
after squashing; width and height are given to it when it is encoded.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from PIL import Image
from scipy import ndimage

#: How far breath and pose bend an image, as a share of half its side. Images of one patient, laid over one
#: another, agree about as little as on real images, so that they are not taken for copies.
BEND = 0.015
POSE_STREAM = 1

#: Latents of the anatomy, in the order in which they are drawn.
ANATOMY = (
    "width", "apex", "base", "taper", "dome_left", "dome_right", "tilt", "bend", "rib_spacing", "rib_phase",
    "rib_drop", "rib_width", "rib_density", "heart_size", "heart_x", "heart_y", "atrium", "mediastinum",
    "clavicle_y", "clavicle_slope", "shoulder", "arm", "fat", "spine_width", "spine_density", "hilum_y",
    "gas_x", "gas_size", "nodule_1_x", "nodule_1_y", "nodule_2_x", "nodule_2_y", "nodule_3_x", "nodule_3_y",
)  # fmt: skip

#: Vessels around each hilum as noise over (angle, log radius), mixed like the latents above.
VESSEL_SHAPE = (96, 10)

#: Lobar zones of a consolidation: side (-1 is the image's left), relative height in the lung, relative size.
ZONES = ((-1, 0.30, 1.0), (-1, 0.55, 0.9), (-1, 0.82, 1.1), (1, 0.32, 1.0), (1, 0.60, 0.8), (1, 0.80, 0.9))

#: Side marker, the letter R.
MARKER = np.array(
    [[1, 1, 1, 0], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 0], [1, 0, 1, 0], [1, 0, 0, 1]], dtype=np.float32
)


@lru_cache(maxsize=4)
def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    axis = (np.arange(size, dtype=np.float32) + 0.5) * (2.0 / size) - 1.0
    return axis[None, :], axis[:, None]


def _soft(distance: np.ndarray, edge: float) -> np.ndarray:
    """Return a mask that rises from 0 to 1 within twice `edge` of where the signed distance changes sign."""
    t = np.clip(distance * (0.25 / edge) + 0.5, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def _bump(t: np.ndarray) -> np.ndarray:
    return np.exp(-t * t)


def _noise(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Return smooth noise of about unit variance with `cells` cells across, (size, size) float32."""
    coarse = rng.standard_normal((cells, cells), dtype=np.float32)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)) * np.float32(
        1.3
    )


def _mix(patient: np.ndarray, image: np.ndarray, strength: float) -> np.ndarray:
    share = min(strength, 1.0)
    return np.sqrt(share) * patient * max(strength, 1.0) + np.sqrt(1.0 - share) * image


def _shot(rng: np.random.Generator) -> dict[str, float]:
    """Draw what changes from one acquisition to the next, whoever the patient is."""
    z = np.clip(rng.standard_normal(12), -2.2, 2.2).tolist()
    return {
        "angle": 0.035 * z[0],
        "dx": 0.045 * z[1],
        "dy": 0.045 * z[2],
        "zoom": 1.0 + 0.04 * z[3],
        "gain": 1.0 + 0.07 * z[4],
        "gamma": math.exp(0.16 * z[5]),
        "fog": 0.03 + 0.02 * z[6],
        "haze": 0.05 * abs(z[7]),
        "inspiration": z[8],
        "blur": 0.5 + 0.18 * z[9],
        "noise": 0.013 * math.exp(0.30 * z[10]),
        "tilt": 0.03 * z[11],
    }


def _lungs(
    a: dict[str, float], shot: dict[str, float], x: np.ndarray, y: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the geometry that the other parts share: lung mask, relative height, side distances."""
    half = 0.70 * (1.0 + 0.07 * a["width"])
    apex = -0.74 + 0.045 * a["apex"]
    base = 0.56 + 0.06 * a["base"] + 0.045 * shot["inspiration"]
    spine = 0.045 * a["tilt"] * y + 0.04 * a["bend"] * (y * y - 0.3)
    xs = x - spine
    across = np.abs(xs)
    t = np.clip((y - apex) / (base - apex), 0.0, 1.15)
    power = 3.0 + 0.3 * a["taper"]
    outer = half * np.sqrt(1.0 - np.clip(1.0 - t, 0.0, 1.0) ** power) * (0.80 + 0.21 * t)
    offset = (across - 0.52 * half) / (0.52 * half)
    left, right = np.float32(-0.17 - 0.02 * a["dome_left"]), np.float32(-0.105 - 0.02 * a["dome_right"])
    dome = base + np.where(xs < 0, left, right) + 0.14 * offset * offset
    inside = np.minimum(np.minimum(outer - across, across - 0.07), np.minimum(dome - y, y - apex))
    return {
        "xs": xs, "across": across, "t": t, "outer": outer, "half": half, "apex": apex, "base": base,
        "below": y - dome, "mask": _soft(inside, 0.014),
    }  # fmt: skip


def _body(a: dict[str, float], g: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return soft tissue: torso, shoulders with raised or lowered arms, neck."""
    wide = np.abs(x)
    wall = g["half"] + 0.14 + 0.03 * a["fat"] - 0.05 * (y - 0.2) ** 2
    torso = np.minimum(wall - g["across"], y + 0.72)
    top = -0.87 + 0.04 * a["shoulder"] + (0.22 + 0.06 * a["arm"]) * wide**2.2
    under = -0.38 + 0.05 * a["shoulder"] + (0.55 + 0.12 * a["arm"]) * np.clip(wide - 0.7, 0.0, None) - y
    shoulder = np.minimum(y - top, under)
    neck = np.minimum(0.25 + 0.02 * a["fat"] + 0.5 * np.clip(y + 0.88, 0.0, None) - g["across"], -0.5 - y)
    depth = np.maximum(np.maximum(torso, shoulder), neck)
    thick = np.sqrt(np.clip(np.maximum(torso, 0.6 * shoulder), 0.0, 0.6))
    return _soft(depth, 0.018) * (0.24 + 0.34 * thick)


def _ribs(a: dict[str, float], g: dict[str, np.ndarray], y: np.ndarray) -> np.ndarray:
    """Return posterior arcs and the fainter anterior arcs that leave them at the chest wall."""
    spacing = 0.150 * (1.0 + 0.07 * a["rib_spacing"])
    width = 0.21 + 0.02 * a["rib_width"]
    drop = 0.24 + 0.05 * a["rib_drop"]
    r = g["across"] / g["half"]
    start = g["apex"] + 0.06 * a["rib_phase"]

    def arcs(curve: np.ndarray) -> np.ndarray:
        off = ((y - start - curve) / spacing % 1.0 - 0.5) / width
        square = off * off
        # A rib is a tube: its cortex is denser at both edges than its middle.
        return np.exp(-(square**3)) * (0.7 + 0.5 * square)

    posterior = arcs(drop * r**2.4 - 0.05 * np.sin(np.pi * np.clip(r, 0, 1)))
    anterior = arcs(drop + (0.42 + 0.05 * a["rib_drop"]) * (1.0 - r))
    cage = _soft(np.minimum(g["outer"] + 0.035 - g["across"], 0.80 - y), 0.014)
    wall = _bump((g["outer"] - 0.01 - g["across"]) / 0.05)
    density = 0.115 * (1.0 + 0.12 * a["rib_density"])
    fade = 1.0 - 0.7 * _soft(g["below"], 0.03)
    behind = posterior * (1.0 + 1.1 * wall) * _soft(g["across"] - 0.06, 0.02)
    front = 0.5 * anterior * _soft(r - 0.42, 0.05) * (1.0 + 0.5 * wall)
    return density * cage * fade * (behind + front)


def _centre(a: dict[str, float], g: dict[str, np.ndarray], y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the density of spine, trachea and clavicles, and the mask of heart and mediastinum."""
    xs, across = g["xs"], g["across"]
    size = 1.0 + 0.10 * a["heart_size"]
    hx, hy = 0.15 + 0.03 * a["heart_x"], 0.22 + 0.04 * a["heart_y"]
    u, v = xs - hx, y - hy
    long, short = 0.80 * u + 0.60 * v, -0.60 * u + 0.80 * v
    heart = 0.27 * size * (1.0 - np.sqrt((long / (0.37 * size)) ** 2 + (short / (0.29 * size)) ** 2))
    atrium = 0.16 * (
        1.0 - np.sqrt(((xs + 0.06) / (0.16 + 0.02 * a["atrium"])) ** 2 + ((y - 0.24) / 0.27) ** 2)
    )
    vessel = 0.13 + 0.018 * a["mediastinum"] + 0.03 * _bump((y + 0.22) / 0.09) * (xs > 0) - across
    mask = _soft(np.maximum(np.maximum(heart, atrium), vessel), 0.02)

    column = np.exp(-((across / (0.085 + 0.006 * a["spine_width"])) ** 4))
    disc = np.cos((2.0 * np.pi / 0.125) * (y - 0.03 * a["rib_phase"]))
    density = (0.13 + 0.02 * a["spine_density"]) * column * (1.0 + 0.30 * disc)
    density = density - 0.13 * _bump(across / 0.045) * _soft(-0.28 - y, 0.05)

    line = -0.62 + 0.025 * a["clavicle_y"] - (0.16 + 0.05 * a["clavicle_slope"]) * (across - 0.1)
    line = line - 0.035 * np.sin(4.6 * (across - 0.1))
    off = ((y - line) / 0.030) ** 2
    reach = _soft(np.minimum(across - 0.09, 0.86 - across), 0.02)
    return density + 0.17 * np.exp(-off * off) * (0.65 + 0.5 * np.minimum(off, 1.0)) * reach, mask


def _vessels(a: dict[str, float], field: np.ndarray, g: dict[str, np.ndarray], y: np.ndarray) -> np.ndarray:
    """Return lines that leave the hila and thin out, in [0, 1], before weighting by the distance."""
    dx, dy = g["across"] - 0.15, y - 0.02 - 0.04 * a["hilum_y"]
    radius = np.sqrt(dx * dx + dy * dy)
    angle = np.arctan2(dy, dx) * (0.5 / np.pi) + 0.5
    rows = (g["xs"] >= 0) * np.float32(VESSEL_SHAPE[0] / 2) + angle * (VESSEL_SHAPE[0] / 2 - 1)
    columns = np.log1p(radius * 6.0) * (VESSEL_SHAPE[1] / 2.4)
    value = ndimage.map_coordinates(field, np.stack([rows, columns]), order=1, mode="nearest")
    return _bump(value / 0.42) * np.exp(-radius / 0.30) * np.clip(radius / 0.08, 0.3, 1.0)


def _focal(rng: np.random.Generator, g: dict[str, np.ndarray], y: np.ndarray, size: int) -> np.ndarray:
    """Return a lobar consolidation, about 0 to 1: one zone, dense, its border sharp."""
    side, height, extent = ZONES[rng.integers(len(ZONES))]
    z = np.clip(rng.standard_normal(5), -2.0, 2.0).tolist()
    cx = side * g["half"] * (0.52 + 0.10 * z[0])
    cy = g["apex"] + (height + 0.05 * z[1]) * (g["base"] - g["apex"])
    rx, ry = 0.20 * extent * math.exp(0.18 * z[2]), 0.20 * extent * math.exp(0.18 * z[3])
    warp = 0.22 * _noise(rng, size, 9) + 0.10 * _noise(rng, size, 24)
    distance = 1.0 - np.sqrt(((g["xs"] - cx) / rx) ** 2 + ((y - cy) / ry) ** 2) + warp
    return _soft(distance, 0.13 * math.exp(0.3 * z[4])) * (g["xs"] * side > 0)


def _diffuse(rng: np.random.Generator, g: dict[str, np.ndarray], y: np.ndarray, size: int) -> np.ndarray:
    """Return a bilateral perihilar haze with a reticular, streaky texture, about 0 to 1."""
    z = np.clip(rng.standard_normal(3), -2.0, 2.0).tolist()
    spread = 0.36 * math.exp(0.2 * z[0])
    weight = np.exp(
        -(((g["across"] - 0.20) / spread) ** 2) - ((y - 0.05 - 0.08 * z[1]) / (1.4 * spread)) ** 2
    )
    # The zero crossings of noise are a net of thin lines: interstitial thickening seen end on.
    net = _bump(_noise(rng, size, 26) / 0.30) + 0.7 * _bump(_noise(rng, size, 44) / 0.35)
    patches = 1.0 + 0.35 * _noise(rng, size, 6)
    return weight * patches * (0.45 + 0.42 * net * math.exp(0.2 * z[2]))


def _opacity(
    rng: np.random.Generator, label: str, strength: float, g: dict[str, np.ndarray], y: np.ndarray, size: int
) -> np.ndarray:
    """Return the density that pneumonia adds; mild and mixed pictures make the classes overlap."""
    severity = strength * math.exp(0.55 * min(max(rng.standard_normal(), -2.0), 2.0))
    mixed = float(rng.beta(0.8, 3.0))
    focal, diffuse = _focal(rng, g, y, size), _diffuse(rng, g, y, size)
    if label == "bacterial":
        weights = (1.0 - mixed, mixed)
    elif label == "viral":
        weights = (mixed, 1.0 - mixed)
    else:
        return np.zeros_like(focal)
    return severity * (0.40 * weights[0] * focal + 0.34 * weights[1] * diffuse)


def draw_image(
    size: int,
    label: str,
    identity: float,
    disease: float,
    patient_seed: tuple[int, ...],
    image_seed: tuple[int, ...],
) -> np.ndarray:
    """Draw one image.

    Parameters
    ----------
    size : int
        Side of the square grid in pixels.
    label : str
        ``normal``, ``bacterial`` or ``viral``.
    identity, disease : float
        Strengths, 0 for none.
    patient_seed, image_seed : tuple of int
        Seeds of what the patient keeps and of what each image draws anew.

    Returns
    -------
    numpy.ndarray
        (size, size) uint8, 0 is black.
    """
    patient, rng = np.random.default_rng(patient_seed), np.random.default_rng(image_seed)
    own, new = (np.clip(r.standard_normal(len(ANATOMY)), -2.2, 2.2) for r in (patient, rng))
    latents = _mix(own, new, identity)
    a = dict(zip(ANATOMY, latents.tolist(), strict=True))
    own, new = (r.standard_normal(VESSEL_SHAPE) for r in (patient, rng))
    field = _mix(own, new, identity).astype(np.float32)
    shot = _shot(rng)

    gx, gy = _grid(size)
    cos, sin = math.cos(shot["angle"]) / shot["zoom"], math.sin(shot["angle"]) / shot["zoom"]
    x = (gx - shot["dx"]) * cos + (gy - shot["dy"]) * sin
    y = (gy - shot["dy"]) * cos - (gx - shot["dx"]) * sin

    # No two images of a patient are the same picture moved: breath and pose bend each on its own.
    pose = np.random.default_rng((*image_seed, POSE_STREAM))
    x, y = x + BEND * _noise(pose, size, 4), y + BEND * _noise(pose, size, 4)

    g = _lungs(a, shot, x, y)
    bones, heart = _centre(a, g, y)
    above = 1.0 - _soft(g["below"], 0.03)
    lung = g["mask"] * (1.0 - 0.88 * heart)
    body = _body(a, g, x, y)
    bones = bones * (0.45 + 0.55 * above) * np.minimum(8.0 * body, 1.0)
    density = body + _ribs(a, g, y) + bones + 0.17 * heart * above
    density = density + 0.15 * _soft(np.minimum(g["below"], g["half"] + 0.05 - g["across"]), 0.02)
    gas_x, gas_size = 0.30 + 0.05 * a["gas_x"], 0.09 * (1.0 + 0.3 * a["gas_size"])
    gas = 1.0 - np.sqrt(
        ((g["xs"] - gas_x) / (1.3 * gas_size + 0.02)) ** 2 + ((y - g["base"] - 0.09) / 0.07) ** 2
    )
    density = density - 0.14 * _soft(gas, 0.12) * _soft(g["below"], 0.02)

    air = 0.33 - 0.15 * _vessels(a, field, g, y) - shot["haze"] - 0.02 * _noise(rng, size, 5)
    # Opacity takes the place of air: where it is dense, vessels disappear in it.
    opacity = np.clip(_opacity(rng, label, disease, g, y, size), 0.0, 0.30)
    density = density - lung * air * (1.0 - opacity / 0.34)
    for i in (1, 2, 3):
        nx, ny = 0.35 * a[f"nodule_{i}_x"], -0.05 + 0.3 * a[f"nodule_{i}_y"]
        density = density + 0.16 * np.exp(-((g["xs"] - nx) ** 2 + (y - ny) ** 2) / 0.022**2)

    density = density * (1.0 + shot["tilt"] * gx) * shot["gain"]
    density = ndimage.gaussian_filter(density, shot["blur"] * size / 160.0, truncate=3.0)
    _stamp(density, rng, size)
    grain = rng.standard_normal((size, size), dtype=np.float32)
    signal = np.clip(shot["fog"] + 1.15 * density, 0.0, None)
    # The shoulder of the image's characteristic curve: dense tissue saturates softly.
    signal = signal / np.sqrt(np.sqrt(1.0 + (signal * signal / 0.92**2) ** 2))
    tone = np.clip(signal + shot["noise"] * grain, 0.0, 1.0) ** shot["gamma"]
    return np.round(255.0 * tone).astype(np.uint8)


def _stamp(density: np.ndarray, rng: np.random.Generator, size: int) -> None:
    """Put the side marker on the upper left edge of the image, in place."""
    scale = max(1, round(size * rng.uniform(0.006, 0.012)))
    marker = np.kron(MARKER, np.ones((scale, scale), dtype=np.float32))
    top, left = int(size * rng.uniform(0.03, 0.45)), int(size * rng.uniform(0.01, 0.05))
    window = density[top : top + marker.shape[0], left : left + marker.shape[1]]
    np.maximum(window, 0.8 * marker[: window.shape[0], : window.shape[1]], out=window)
