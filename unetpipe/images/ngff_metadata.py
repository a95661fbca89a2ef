"""What other tools' OME-Zarr says: versions 0.1 to 0.5, of one image.

A folder may also hold many images: a plate of wells, a well of fields, a converted file
of several series. One of them is to be named.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from unetpipe.errors import DataError
from unetpipe.images.axes import LETTERS
from unetpipe.images.lengths import FoundSize, Lengths, nm_per_unit

LISTED = 5
HEEDED = ("scale", "translation", "identity")  # transformations


@dataclass(frozen=True, slots=True)
class GroupDescription:
    """An image in a Zarr group.

    Attributes
    ----------
    path : Path
        Folder of the image: of one inside, where a group holds but one.
    array : zarr array
        Of one level.
    level : str
        Its path in the image.
    number : int
        Of the level; 0: full resolution.
    axes : str
        One letter an axis.
    voxel_size : FoundSize
        As far as the metadata say so, with units.
    channels : tuple of str
        Their names, if there are any.
    origin : (z, y, x) or None
        Where the first voxel lies, in voxels, if a translation says so.
    remarks : tuple of str
        What the metadata say and is not heeded.
    """

    path: Path
    array: Any
    level: str
    number: int
    axes: str
    voxel_size: FoundSize
    channels: tuple[str, ...]
    origin: tuple[float, float, float] | None
    remarks: tuple[str, ...] = ()


def read_ngff_group(path: Path, group: Any, level: int = 0) -> GroupDescription:
    """Return one level of the one image of a group.

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
                return read_ngff_group(path / series[0], group[series[0]], level)
            raise DataError(
                f"{path} holds {len(series)} images; name one in the sheet, "
                f"{path.name}/N with N from {_listing(series)}"
            )
        raise DataError(
            f"{path} is a Zarr group without `multiscales`; name an array in it: "
            f"{', '.join(sorted(group.array_keys())) or 'it has none'}"
        )
    levels = images[0]["datasets"]
    if level and level >= len(levels):
        raise DataError(
            f"{path} has {len(levels)} resolution level{'s' * (len(levels) > 1)}, but "
            f"level is {level} in the sheet; write 0 to {len(levels) - 1}"
        )
    return _describe(path, group, about, level)


def read_ngff_level(path: Path, group: Any, inside: str) -> GroupDescription | None:
    """Return what a group says of one of its arrays; None if it says nothing.

    Parameters
    ----------
    path : Path
        Of the group.
    group : zarr group
        Perhaps of an image.
    inside : str
        Path of the array in the group.
    """
    attributes: Any = dict(group.attrs)
    about = attributes.get("ome", attributes)
    images = about.get("multiscales") or [{}]
    paths = [
        str(level.get("path")).strip("/") for level in images[0].get("datasets", ())
    ]
    if inside not in paths:
        return None
    return _describe(path, group, about, paths.index(inside))


def _describe(path: Path, group: Any, about: Any, number: int) -> GroupDescription:
    image = about["multiscales"][0]
    level = image["datasets"][number]
    array = group[level["path"]]
    # Versions 0.1 and 0.2 name no axes and have all five; 0.3 has names alone.
    axes = image.get("axes") or list("tczyx")
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in axes]
    named = [_axis_name(axis) for axis in axes]
    # An axis of one strange letter can be named in the sheet.
    letters = "".join(LETTERS.get(n, n if len(n) == 1 else "") for n in named)
    if len(letters) != array.ndim or len(axes) != array.ndim:
        names = ", ".join(str(axis["name"]) for axis in axes)
        raise DataError(
            f"{path} names the axes {names}, but its array has the shape "
            f"{array.shape}; axes that are read: t, c, z, y, x"
        )
    return GroupDescription(
        path,
        array,
        str(level["path"]),
        number,
        letters,
        _voxel_size(letters, axes, [level, image]),
        _channel_names(about),
        _origin(letters, [level, image]),
        tuple(_find_unheeded(path, group, about["multiscales"], number)),
    )


def _find_unheeded(
    path: Path, group: Any, images: list[Any], number: int
) -> Iterator[str]:
    """Yield what metadata say of an image that is not heeded."""
    levels = images[0]["datasets"]
    if len(images) > 1:
        names = _listing([str(i.get("name", k)) for k, i in enumerate(images)])
        yield f"{path} holds {len(images)} images ({names}), of which the first is read"
    paths = [str(level["path"]) for level in levels]
    sizes = [group[name].size if name in group else 0 for name in paths]
    if not number and sizes[0] < max(sizes):
        yield (
            f"{path}: its first level ({paths[0]}) is smaller than "
            f"{paths[sizes.index(max(sizes))]}, though the largest is to stand first: "
            "correct its metadata, or name that one"
        )
    for part in (levels[number], images[0]):
        for transform in part.get("coordinateTransformations") or ():
            if transform.get("type") not in HEEDED:
                yield (
                    f"{path} has a transformation of type {transform.get('type')}, "
                    "which is not heeded"
                )


def _axis_name(axis: dict[str, Any]) -> str:
    """Return what an axis is called; of channels and time the type tells it too."""
    kind = str(axis.get("type", "")).lower()
    return kind if kind in ("channel", "time") else str(axis["name"]).strip().lower()


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


def _voxel_size(
    letters: str, axes: list[dict[str, Any]], scaled: list[Any]
) -> FoundSize:
    """Return the size from the scales of the level and of the whole image."""
    transforms = [
        transform["scale"]
        for part in scaled
        for transform in part.get("coordinateTransformations") or ()
        if transform.get("type") == "scale"
    ]
    if not transforms:
        return FoundSize()
    lengths = Lengths("OME-Zarr")
    found: dict[str, float | None] = {}
    columns = zip(*transforms, strict=True)
    for letter, factors, axis in zip(letters, columns, axes, strict=True):
        if letter in "zyx":
            unit, scale = axis.get("unit"), prod(map(float, factors))
            is_sane = lengths.read(f"scale of {letter}", scale, unit)
            found[letter] = (
                prod(map(float, factors), start=nm_per_unit(unit) or 0.0)
                if is_sane
                else None
            )
    return lengths.found([found.get(letter) for letter in "zyx"])


def _origin(letters: str, placed: list[Any]) -> tuple[float, float, float] | None:
    """Return where the first voxel lies, by the transformations in their order."""
    at, size = [0.0] * len(letters), [1.0] * len(letters)
    is_moved = False
    for part in placed:
        for transform in part.get("coordinateTransformations") or ():
            kind = transform.get("type")
            values = transform.get(str(kind)) if kind in HEEDED else ()
            if len(values or ()) != len(letters):
                continue
            values = list(map(float, values))
            if kind == "scale":
                at = [a * v for a, v in zip(at, values, strict=True)]
                size = [s * v for s, v in zip(size, values, strict=True)]
            elif kind == "translation":
                at = [a + v for a, v in zip(at, values, strict=True)]
                is_moved = True
    if not is_moved or not all(size):
        return None
    places = dict(
        zip(letters, (a / s for a, s in zip(at, size, strict=True)), strict=True)
    )
    return places.get("z", 0.0), places.get("y", 0.0), places.get("x", 0.0)


def _channel_names(about: Any) -> tuple[str, ...]:
    channels = (about.get("omero") or {}).get("channels") or ()
    names = tuple(str(channel.get("label") or "") for channel in channels)
    return names if all(names) else ()


def _listing(names: list[str]) -> str:
    more = ", ..." if len(names) > LISTED else ""
    return f"{', '.join(names[:LISTED]) or 'none'}{more}"
