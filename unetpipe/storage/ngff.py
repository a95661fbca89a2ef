"""What NGFF 0.5 says of an image: axes, units, channels, colours, labels.

https://ngff.openmicroscopy.org/0.5/index.html. Physical lengths are nanometres; where
nobody knows the size of a voxel, axes have no unit. Where its depth alone is unknown, z
has none: viewers are then told that it is as deep as high, as everybody counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from yaozarrs import v05

from unetpipe.tiling.boxes import AXES, UNKNOWN_SIZE
from unetpipe.tiling.scale import ToldSize

VERSION = "0.5"
UNIT = "nanometer"
GREY = "FFFFFF"
# Okabe and Ito: told apart by colour-blind people too.
PALETTE = (
    *("56B4E9", "E69F00", "009E73", "CC79A7", "F0E442", "0072B2", "D55E00"),
    "999999",
)
UNLABELLED_COLOUR = "808080"

Rgba = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Channel:
    """How a viewer shows one channel.

    Attributes
    ----------
    name : str
        For people.
    colour : str
        Of its brightest voxels: six hexadecimal digits, red first.
    window : (low, high), optional
        Grey values shown as black and in full colour; None: all that the dtype holds.
    is_shown : bool
        Whether a viewer shows it from the start.
    """

    name: str
    colour: str = GREY
    window: tuple[float, float] | None = None
    is_shown: bool = True


def ngff_channel_names(names: Sequence[str]) -> tuple[Channel, ...]:
    """Return channels with colours: grey for a single one, else one of the palette."""
    if len(names) == 1:
        return (Channel(names[0]),)
    return tuple(Channel(name, ngff_colour(k)) for k, name in enumerate(names))


def ngff_class_names(
    names: Sequence[str],
    *,
    has_cores: bool = False,
    offsets: Sequence[tuple[int, int, int]] = (),
) -> tuple[Channel, ...]:
    """Return channels for the probabilities of classes; class 0 is not shown at first.

    With two classes only the foreground, class 1, has a channel; beside it lie the
    probability of a cell's core, or affinities to the voxels at some offsets, if there
    are any.
    """
    channels = [
        Channel(name, ngff_colour(k - 1) if k else GREY, is_shown=k > 0)
        for k, name in enumerate(names)
    ]
    if len(channels) > 2:
        return tuple(channels)
    cores = [Channel("core", ngff_colour(1), is_shown=False)] if has_cores else []
    pairs = [
        Channel("affinity " + " ".join(map(str, o)), is_shown=False) for o in offsets
    ]
    return (*channels[1:], *cores, *pairs)


def usual_class_names(num_classes: int) -> list[str]:
    """Return names for classes that nobody named."""
    if num_classes == 2:
        return ["background", "foreground"]
    return [f"class {k}" for k in range(num_classes)]


def ngff_colour(number: int) -> str:
    """Return a colour of the palette, which begins anew after its last one."""
    return PALETTE[number % len(PALETTE)]


def class_colours_of_ngff(
    num_classes: int, unlabelled: int | None = None
) -> dict[int, Rgba]:
    """Return a colour for each class but 0, and half-transparent grey for unlabelled.

    They are those of ``ngff_class_names``.

    Examples
    --------
    >>> class_colours_of_ngff(2)
    {1: (86, 180, 233, 255)}
    """
    colours = {k: _rgba(ngff_colour(k - 1), 255) for k in range(1, num_classes)}
    if unlabelled is not None:
        colours[unlabelled] = _rgba(UNLABELLED_COLOUR, 128)
    return colours


def describe_image(
    name: str,
    voxel_size_nm: ToldSize,
    *,
    dtype: DTypeLike,
    channels: Sequence[Channel] | None,
) -> dict[str, Any]:
    """Return the metadata of an image of one level, (c, z, y, x) or (z, y, x)."""
    about = _describe(name, voxel_size_nm, has_channels=channels is not None)
    if channels is not None:
        describe_channels(about, channels, dtype)
    v05.Image.model_validate(about)
    return about


def describe_channels(
    about: dict[str, Any], channels: Sequence[Channel], dtype: DTypeLike
) -> None:
    """Say in an image's metadata what its channels are called and look like."""
    about["omero"] = {"channels": [_describe_channel(c, dtype) for c in channels]}


def describe_labels(
    name: str,
    voxel_size_nm: ToldSize,
    *,
    is_inside_image: bool,
) -> dict[str, Any]:
    """Return the metadata of labels of one level, (z, y, x).

    Parameters
    ----------
    name : str
        For people.
    voxel_size_nm : (z, y, x)
        Physical size of a voxel; z None: nobody knows, or sections are frames.
    is_inside_image : bool
        Whether the labels lie in an image's ``labels`` group, two folders further in.
    """
    about = _describe(name, voxel_size_nm, has_channels=False)
    label = {"source": {"image": "../../"}} if is_inside_image else {}
    about["image-label"] = label
    v05.LabelImage.model_validate(about)
    return about


def set_ngff_label_colours(about: dict[str, Any], colours: Mapping[int, Rgba]) -> None:
    """Say in the metadata of labels which colours ids but 0 have.

    Without it (objects have too many ids) viewers choose.
    """
    coloured = [
        {"label-value": value, "rgba": list(rgba)}
        for value, rgba in sorted(colours.items())
    ]
    about["image-label"] = {"colors": coloured} | about["image-label"]
    v05.LabelImage.model_validate(about)


def describe_labels_group(names: Sequence[str]) -> dict[str, Any]:
    """Return the metadata of an image's ``labels`` group."""
    return {"version": VERSION, "labels": list(names)}


def set_viewer_windows(
    about: dict[str, Any], windows: Sequence[tuple[float, float]]
) -> None:
    """Say which grey values viewers show as black and white, for each channel."""
    for channel, window in zip(about["omero"]["channels"], windows, strict=True):
        channel["window"] = _window(*window)


def told_axes(voxel_size_nm: ToldSize) -> str:
    """Return the axes along which the size of a voxel is a length.

    Examples
    --------
    >>> told_axes((None, 4.0, 4.0)), told_axes(UNKNOWN_SIZE)
    ('yx', '')
    """
    if tuple(voxel_size_nm) == UNKNOWN_SIZE:
        return ""
    return AXES if voxel_size_nm[0] is not None else AXES[1:]


def _describe(
    name: str, voxel_size_nm: ToldSize, *, has_channels: bool
) -> dict[str, Any]:
    told = told_axes(voxel_size_nm)
    axes = [
        {"name": axis, "type": "space"} | ({"unit": UNIT} if axis in told else {})
        for axis in AXES
    ]
    z, y, x = voxel_size_nm
    scale = [float(y if z is None else z), float(y), float(x)]
    if has_channels:
        axes, scale = [{"name": "c", "type": "channel"}, *axes], [1.0, *scale]
    level = {
        "path": "0",
        "coordinateTransformations": [{"type": "scale", "scale": scale}],
    }
    return {
        "version": VERSION,
        "multiscales": [{"name": name, "axes": axes, "datasets": [level]}],
    }


def _describe_channel(channel: Channel, dtype: DTypeLike) -> dict[str, Any]:
    return {
        "label": channel.name,
        "color": channel.colour,
        "active": channel.is_shown,
        "window": _window(*(channel.window or _range(np.dtype(dtype)))),
    }


def _range(dtype: np.dtype[Any]) -> tuple[float, float]:
    if dtype.kind not in "iu":
        return 0.0, 1.0
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def _window(low: float, high: float) -> dict[str, float]:
    return {"min": low, "max": high, "start": low, "end": high}


def _rgba(colour: str, alpha: int) -> Rgba:
    red, green, blue = bytes.fromhex(colour)
    return red, green, blue, alpha
