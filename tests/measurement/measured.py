"""Labels and images in memory as objects to measure, and scikit-image's own table."""

import numpy as np
import zarr
from scipy.ndimage import find_objects
from skimage.measure import regionprops_table

from unetpipe.config.measurement import ALL
from unetpipe.measurement.columns import name_columns
from unetpipe.measurement.passes import LARGEST_BOX, Objects, measure_blocks_of_part

CHANNELS = {"a": 0, "b": 1}
FLAT = (
    *("area", "centroid", "intensity_mean", "intensity_min", "intensity_max"),
    *("intensity_std", "centroid_weighted", "axis_major_length", "axis_minor_length"),
    *("orientation", "eccentricity", "perimeter", "solidity", "feret_diameter_max"),
    "euler_number",
)
SPATIAL = tuple(set(FLAT) - {"orientation", "eccentricity", "perimeter"})


def as_objects(
    ids, image, block, *, size=(50.0, 4.0, 4.0), is_flat, largest_box=LARGEST_BOX
):
    """Return objects of labels 1, 2, ..., none missing, in stores of these blocks."""
    arrays = []
    for voxels, chunk in ((ids, block), (image, (1, *block))):
        array = zarr.create_array({}, data=voxels, chunks=chunk)
        arrays.append(array)
    boxes = [[n for s in box for n in (s.start, s.stop)] for box in find_objects(ids)]
    return Objects(
        boxes=np.array(boxes, np.int64).reshape(-1, 6),
        ids=arrays[0],
        image=arrays[1],
        channels=CHANNELS,
        block=block,
        voxel_size_nm=size,
        is_flat=is_flat,
        reach_nm=200.0,
        columns=name_columns(ALL, list(CHANNELS), is_flat=is_flat),
        largest_box=largest_box,
    )


def measure(objects, num_parts=1):
    """Return column -> values, in the order of ids, measured in so many parts."""
    rows = [
        row
        for part in range(num_parts)
        for row in measure_blocks_of_part(objects, part, num_parts)
    ]
    ids = [number for number, _ in rows]
    assert sorted(ids) == list(range(1, len(objects.boxes) + 1)), "each counts once"
    values = np.array([row for _, row in sorted(rows)])
    names = [column.name for column in objects.columns]
    return dict(zip(names, values.reshape(-1, len(names)).T, strict=True))


def theirs(ids, image, size, is_flat):
    """Return what scikit-image measures, under the names of our columns."""
    if not is_flat:
        return _renamed(ids, image, size, SPATIAL, is_flat)
    tables = []
    for z in range(len(ids)):
        if ids[z].any():
            table = _renamed(ids[z], image[:, z], size[1:], FLAT, is_flat)
            table["centroid_z_nm"] = np.full(len(table["id"]), z * size[0])
            tables.append(table)
    joined = {n: np.concatenate([t[n] for t in tables]) for n in tables[0]}
    order = np.argsort(joined["id"])
    return {name: values[order] for name, values in joined.items()}


def _renamed(ids, image, size, names, is_flat):
    table = regionprops_table(
        ids,
        np.moveaxis(image, 0, -1),
        properties=("label", *names),
        spacing=size,
    )
    axes = "yx" if is_flat else "zyx"
    nm = ("axis", "perimeter", "feret")
    renamed = {}
    for name, values in table.items():
        root, *numbers = name.split("-")
        is_grey = root.startswith("intensity") or root.endswith("weighted")
        channel = "ab"[int(numbers[-1])] if is_grey else ""
        if name == "label":
            renamed["id"] = values
        elif root == "area":
            renamed["area_nm2" if is_flat else "volume_nm3"] = values
        elif root == "centroid":
            renamed[f"centroid_{axes[int(numbers[0])]}_nm"] = values
        elif root == "centroid_weighted":
            axis = axes[int(numbers[0])]
            renamed[f"centroid_weighted_{channel}_{axis}_nm"] = values
        elif root.startswith("intensity"):
            renamed[f"{root}_{channel}"] = values
        elif root == "orientation":
            renamed["orientation_rad"] = values
        else:
            renamed[f"{root}_nm" if root.startswith(nm) else root] = values
    return renamed
