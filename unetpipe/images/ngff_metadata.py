"""What other tools' OME-Zarr says: versions 0.1 to 0.5, of one image.

A folder may also hold many images: a plate of wells, a well of fields, a converted file
of several series. One of them is to be named.
"""

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from unetpipe.errors import DataError
from unetpipe.images.lengths import nm_per_unit
from unetpipe.images.source import VoxelSize

LISTED = 5


@dataclass(frozen=True, slots=True)
class GroupDescription:
    """An image in a Zarr group.

    Attributes
    ----------
    array : zarr array
        Of the full resolution.
    level : str
        Its path in the group.
    axes : str
        One letter an axis.
    voxel_size_nm : (z, y, x) or None
        If the metadata say so, with units.
    channels : tuple of str
        Their names, if there are any.
    """

    array: Any
    level: str
    axes: str
    voxel_size_nm: VoxelSize | None
    channels: tuple[str, ...]


def describe_group(path: Path, group: Any) -> GroupDescription:
    """Return the one image of a group.

    Raises
    ------
    DataError
        If there is none, or there are several: the message names them.
    """
    attributes: Any = dict(group.attrs)
    about = attributes.get("ome", attributes)
    images = about.get("multiscales")
    if not images:
        _refuse_many(path, about)
        if "bioformats2raw.layout" in about:
            series = sorted(key for key in group.group_keys() if key.isdecimal())
            if len(series) == 1:
                return describe_group(path / series[0], group[series[0]])
            raise DataError(
                f"{path} holds {len(series)} images; name one in the sheet, "
                f"{path.name}/N with N from {_listing(series)}"
            )
        raise DataError(
            f"{path} is a Zarr group without `multiscales`; name an array in it: "
            f"{', '.join(sorted(group.array_keys())) or 'it has none'}"
        )
    image = images[0]
    level = image["datasets"][0]
    array = group[level["path"]]
    # Versions 0.1 and 0.2 name no axes and have all five; 0.3 has names alone.
    axes = image.get("axes") or list("tczyx")
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in axes]
    letters = "".join(axis["name"].lower() for axis in axes)
    if len(letters) != array.ndim or len(axes) != array.ndim:
        names = ", ".join(str(axis["name"]) for axis in axes)
        raise DataError(
            f"{path} names the axes {names}, but its array has the shape "
            f"{array.shape}; axes of one letter each are read: t, c, z, y, x"
        )
    return GroupDescription(
        array,
        str(level["path"]),
        letters,
        _voxel_size(axes, [level, image]),
        _channel_names(about),
    )


def _refuse_many(path: Path, about: Any) -> None:
    if "plate" in about:
        wells = [str(well["path"]) for well in about["plate"].get("wells", ())]
        first = f"{path.name}/{wells[0] if wells else 'A/1'}/0"
        raise DataError(
            f"{path} is a plate of {len(wells)} wells ({_listing(wells)}), not one "
            f"image; give each field a row of its own in the sheet, such as {first}"
        )
    if "well" in about:
        fields = [str(field["path"]) for field in about["well"].get("images", ())]
        raise DataError(
            f"{path} is a well of {len(fields)} fields ({_listing(fields)}), not one "
            f"image; give each field a row of its own in the sheet, such as "
            f"{path.name}/{fields[0] if fields else 0}"
        )


def _voxel_size(axes: list[dict[str, Any]], scaled: list[Any]) -> VoxelSize | None:
    """Return the size from the scales of the level and of the whole image."""
    size = [nm_per_unit(axis.get("unit")) or 0.0 for axis in axes]
    transforms = [
        transform["scale"]
        for part in scaled
        for transform in part.get("coordinateTransformations") or ()
        if transform.get("type") == "scale"
    ]
    if not transforms:
        return None
    for scale in transforms:
        size = [s * float(factor) for s, factor in zip(size, scale, strict=True)]
    named = {axis["name"].lower(): s for axis, s in zip(axes, size, strict=True)}
    z, y, x = (named.get(axis, named.get("x", 0.0)) for axis in "zyx")
    is_sane = min(z, y, x) > 0 and isfinite(z + y + x)
    return (z, y, x) if is_sane else None


def _channel_names(about: Any) -> tuple[str, ...]:
    channels = (about.get("omero") or {}).get("channels") or ()
    names = tuple(str(channel.get("label") or "") for channel in channels)
    return names if all(names) else ()


def _listing(names: list[str]) -> str:
    more = ", ..." if len(names) > LISTED else ""
    return f"{', '.join(names[:LISTED]) or 'none'}{more}"
