"""Made-up sets in layouts that people really have, for trials by hand too.

::

    python -m tests.survey.strangers FOLDER   vessels/, organelles/, two-channels/
"""

import sys
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from scipy.ndimage import distance_transform_edt, gaussian_filter

SIDE = 192


def write(path, section):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(section)))
    else:
        kind = "rgb" if section.ndim == 3 else "minisblack"
        tifffile.imwrite(path, section, photometric=kind)


def photograph(rng, *, dark, noise=18.0):
    """Return a grey section in which a mask is darker than what surrounds it."""
    field = gaussian_filter(rng.normal(size=dark.shape), 24)
    grey = 150 + 40 * field / np.abs(field).max() - 60 * gaussian_filter(1.0 * dark, 1)
    return np.uint8(np.clip(grey + rng.normal(scale=noise, size=dark.shape), 0, 255))


def draw_curves(rng, number=7, radius=2.0):
    """Return the mask of thin curves that wander through the section."""
    paper = np.zeros((SIDE, SIDE), bool)
    for _ in range(number):
        turns = np.cumsum(rng.normal(scale=0.12, size=3 * SIDE))
        angle = rng.uniform(0, 2 * np.pi) + turns
        start = rng.uniform(0, SIDE, 2)[:, None]
        y, x = start + np.cumsum([np.sin(angle), np.cos(angle)], axis=1)
        inside = (y >= 0) & (y < SIDE) & (x >= 0) & (x < SIDE)
        paper[y[inside].astype(int), x[inside].astype(int)] = True
    return distance_transform_edt(~paper) <= radius


def draw_discs(rng, number, low, high, *, gap=0):
    """Return ids of discs that may touch, and do not overlap."""
    y, x = np.mgrid[:SIDE, :SIDE]
    ids = np.zeros((SIDE, SIDE), np.uint16)
    for _ in range(60 * number):
        if ids.max() == number:
            break
        radius = rng.uniform(low, high)
        cy, cx = rng.uniform(radius, SIDE - radius, 2)
        distance = np.hypot(y - cy, x - cx)
        if not ids[distance <= radius + gap].any():
            ids[distance <= radius] = ids.max() + 1
    return ids


def write_vessels(folder):
    """Photographs in colour, two drawings of each, and the round field of view.

    ::

        training/images/21_training.tif    training/1st_manual/21_manual1.png
        training/2nd_manual/...            training/mask/21_training_mask.png
        test/images/01_test.tif            test/mask/01_test_mask.png
    """
    y, x = np.mgrid[:SIDE, :SIDE]
    for k in range(12):
        rng = np.random.default_rng(k)
        split, number = ("training", 21 + k) if k < 8 else ("test", k - 7)
        vessels = draw_curves(rng)
        view = np.hypot(y - SIDE / 2, x - SIDE / 2) < SIDE / 2 - 4 - k % 2
        vessels &= view
        grey = np.where(view, photograph(rng, dark=vessels), 4)
        colours = np.stack([grey, 0.6 * grey, 0.4 * grey], axis=-1).astype(np.uint8)
        place, name = folder / split, f"{number:02}_{split}"
        write(place / "images" / f"{name}.tif", colours)
        write(place / "mask" / f"{name}_mask.png", np.uint8(255 * view))
        if split == "training":
            second = distance_transform_edt(~vessels) <= 1
            for who, drawn in (("1st", vessels), ("2nd", second & view)):
                path = place / f"{who}_manual" / f"{number:02}_manual{who[0]}.png"
                write(path, np.uint8(255 * drawn))


def write_organelles(folder):
    """Sections of a tissue, and one folder of masks for each class.

    ::

        em/images/a0.png    em/mito/a0.png    em/nucleus/a0.png    em/vesicle/a0.png
    """
    for k in range(10):
        rng = np.random.default_rng(100 + k)
        nucleus = draw_discs(rng, 1, 30, 40) > 0
        mito = (draw_discs(rng, 8, 7, 12) > 0) & ~nucleus
        vesicle = (draw_discs(rng, 25, 2, 4) > 0) & ~nucleus & ~mito
        masks = {"mito": mito, "nucleus": nucleus, "vesicle": vesicle}
        grey = photograph(rng, dark=mito) - np.uint8(20) * nucleus + 30 * vesicle
        grey = np.uint8(np.clip(grey, 0, 255))
        write(folder / "em" / "images" / f"a{k}.png", grey)
        for name, mask in masks.items():
            write(folder / "em" / name / f"a{k}.png", np.uint8(255 * mask))


def write_two_channels(folder):
    """Nuclei that touch, with a membrane channel, named as nnU-Net wants it.

    ::

        imagesTr/cell_001_0000.png  imagesTr/cell_001_0001.png  labelsTr/cell_001.png
        imagesTs/cell_101_0000.png  imagesTs/cell_101_0001.png  labelsTs/cell_101.png
    """
    for k in range(12):
        rng = np.random.default_rng(200 + k)
        ids = draw_discs(rng, 45, 7, 14)
        split, number = ("Tr", k + 1) if k < 9 else ("Ts", k + 92)
        edge = distance_transform_edt(ids > 0)
        channels = (
            255 - photograph(rng, dark=ids > 0),
            255 - photograph(rng, dark=(edge > 0) & (edge < 3)),
        )
        for c, section in enumerate(channels):
            name = f"cell_{number:03}_{c:04}.png"
            write(folder / f"images{split}" / name, section)
        write(folder / f"labels{split}" / f"cell_{number:03}.png", ids)


SETS = {
    "vessels": write_vessels,
    "organelles": write_organelles,
    "two-channels": write_two_channels,
}

if __name__ == "__main__":
    for place, write_set in SETS.items():
        write_set(Path(sys.argv[1]) / place)
