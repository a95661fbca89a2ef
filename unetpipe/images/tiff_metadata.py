"""What TIFF says beside its pixels: OME-XML, ImageJ, slide scanners."""

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tifffile

from unetpipe.errors import DataError
from unetpipe.images.lengths import FoundSize, Lengths

LISTED = 5  # files named in a message
IMAGEJ_STEP = 1.0  # between sections, in units of the file: what ImageJ never writes
SECTION_AXES = "zqi"
INCHES, PRINTED = ("inch", "inches", "in"), (72, 96, 150, 300, 600)
"""What programs write who know of no size: so many pixels an inch of paper."""


def open_file(path: Path) -> tifffile.TiffFile:
    """Open a TIFF file; its OME-XML may lie in a file beside it, which it names."""
    handle = tifffile.TiffFile(path)
    name = _companion_name(handle)
    if not name or not (companion := _beside(path, name)):
        return handle
    handle.close()
    return tifffile.TiffFile(path, omexml=companion.read_text("utf-8"))


def find_companion(path: Path, handle: tifffile.TiffFile) -> tuple[Path | None, str]:
    """Return the file that the OME-XML lies in, or a remark that it is not there."""
    name = _companion_name(handle)
    companion = _beside(path, name) if name else None
    if not name or companion:
        return companion, ""
    return None, (
        f"{path} keeps its OME-XML in {name}, which is not beside it: its channels, "
        "sections and the size of a voxel are not known; copy that file there too"
    )


def _companion_name(handle: tifffile.TiffFile) -> str:
    text = handle.pages.first.description if handle.is_ome else ""
    try:
        root = ElementTree.fromstring(text) if "BinaryOnly" in text else None
    except ElementTree.ParseError:
        return ""
    found = _elements(root, "BinaryOnly") if root is not None else iter(())
    return next((e.get("MetadataFile", "") for e in found), "")


def _beside(path: Path, name: str) -> Path | None:
    folder, other = path.parent.resolve(), path.parent / name
    return other if other.is_file() and other.resolve().parent == folder else None


def describe_stray_pages(
    path: Path, handle: tifffile.TiffFile, like: Any, num_used: int
) -> str:
    """Tell of pages like those of the image that its OME-XML does not name."""
    if not handle.is_ome or len(handle.pages) <= num_used:
        return ""
    alike = sum(
        not other.is_reduced and (other.shape, other.dtype) == (like.shape, like.dtype)
        for other in (page.aspage() for page in handle.pages)
    )
    if alike <= num_used:
        return ""
    return (
        f"{path}: its OME-XML tells of {num_used} of its {alike} pages; the other "
        f"{alike - num_used} are not read: correct the OME-XML, or save all as a stack"
    )


def describe_orientation(path: Path, orientation: int) -> str:
    """Tell that an image is meant to be seen turned or mirrored; 1: as it lies."""
    if not 2 <= orientation <= 8:
        return ""
    return (
        f"{path}: orientation {orientation} says that it is to be seen turned or "
        "mirrored; it is read as its pixels lie, and labels drawn on what other "
        "programs show may not fit: save it turned"
    )


def describe_exchange(path: Path, handle: tifffile.TiffFile) -> str:
    """Tell that another file of an image had this name when all were written."""
    if not handle.is_ome:
        return ""
    try:
        # The OME-XML may be that of a companion.
        own = ElementTree.fromstring(handle.pages.first.description).get("UUID")
        root = ElementTree.fromstring(handle.ome_metadata or "<OME/>")
    except ElementTree.ParseError:
        return ""
    named = {u.text for u in _elements(root, "UUID") if u.get("FileName") == path.name}
    if not own or not named or own in named:
        return ""
    return (
        f"{path}: its OME-XML says that another file was called {path.name} when both "
        "were written; if they were renamed, channels and sections are not in their "
        "places: give the files their old names"
    )


def describe_inversion(path: Path, page: Any) -> str:
    """Tell that 0 is meant to be seen as white."""
    if page.photometric != tifffile.PHOTOMETRIC.MINISWHITE:
        return ""
    return (
        f"{path} says that 0 is white; its values are read as they are stored, which "
        "is how ImageJ measures them, while other programs turn them over"
    )


def are_signed(handle: tifffile.TiffFile) -> bool:
    """Tell whether 16-bit voxels are signed: ImageJ stores them 32768 higher."""
    about = handle.imagej_metadata or {}
    return (about.get("cf"), about.get("c0"), about.get("c1")) == (0, -32768, 1)


def tiff_voxel_size(handle: tifffile.TiffFile, series: Any) -> FoundSize:
    """Return what OME-XML, ImageJ or a slide scanner says of the size of a voxel."""
    if handle.is_ome:
        return _ome_size(handle, series)
    if handle.is_imagej:
        return _imagej_size(handle, series)
    if handle.is_svs:
        return _svs_size(handle)
    return FoundSize()


def ome_channel_names(handle: tifffile.TiffFile, series: Any) -> tuple[str, ...]:
    """Return the names of all channels from OME-XML, or nothing."""
    if not handle.is_ome:
        return ()
    channels = _ome_pixels(handle, series).get("Channel", [])
    channels = channels if isinstance(channels, list) else [channels]
    names = tuple(str(channel.get("Name", "")) for channel in channels)
    return names if all(names) else ()


def read_georeference(page: Any) -> dict[str, Any] | None:
    """Return where on the earth a GeoTIFF says that it lies, as plain values."""
    if not page.is_geotiff:
        return None
    told = page.geotiff_tags or {}
    return {str(key): _plain(value) for key, value in told.items()}


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it: of the names of numbers, the numbers."""
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, Enum):
        return int(value.value)
    is_plain = isinstance(value, (str, int, float)) and not isinstance(value, bool)
    return value if is_plain else str(value)


def check_files_named_in_tiff(path: Path, handle: tifffile.TiffFile) -> None:
    """Refuse OME-XML that leads out of its folder: it could name any file.

    Raises
    ------
    DataError
        With the name.
    """
    folder = path.parent.resolve()
    for name in _member_names(handle):
        if not (folder / name).resolve().parent.is_relative_to(folder):
            raise DataError(
                f"{path} keeps pixels in {name!r}, outside its folder, which could be "
                "any file of this computer; put all files of the image into one folder "
                "and correct its OME-XML"
            )


def missing_plane(path: Path, handle: tifffile.TiffFile, number: int) -> DataError:
    """Return an error that names the files of an image that are not there."""
    names = _member_names(handle)
    missing = [name for name in names if not (path.parent / name).is_file()]
    if missing:
        more = f" and {len(missing) - LISTED} more" if len(missing) > LISTED else ""
        are = "are" if len(missing) > 1 else "is"
        return DataError(
            f"{path} holds some planes of an image in {len(names) + 1} files, of which "
            f"{', '.join(missing[:LISTED])}{more} {are} not beside it; put all files "
            "of the image there under these names, or save the planes that are there "
            "as a stack of their own"
        )
    return DataError(
        f"{path} is truncated or corrupt: page {number} is missing; copy it again, or, "
        "if the recording was cut short, save the planes that are there as a stack of "
        "their own"
    )


def _member_names(handle: tifffile.TiffFile) -> list[str]:
    """Return the other files that OME-XML names, in its order."""
    text = handle.ome_metadata if handle.is_ome else None
    try:
        root = ElementTree.fromstring(text or "<OME/>")
    except ElementTree.ParseError:
        return []
    own, known = root.get("UUID"), {handle.filename.lower()}
    names = {
        uuid.get("FileName", ""): None
        for uuid in _elements(root, "UUID")
        if not own or uuid.text != own
    }
    return [name for name in names if name and name.lower() not in known]


def _elements(root: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (e for e in root.iter() if str(e.tag).rpartition("}")[2] == name)


def _ome_pixels(handle: tifffile.TiffFile, series: Any) -> dict[str, Any]:
    """Return what OME-XML says of an image: of one with the name of the series."""
    about = tifffile.xml2dict(handle.ome_metadata or "<OME/>").get("OME", {})
    images = about.get("Image", {}) if isinstance(about, dict) else {}
    images = images if isinstance(images, list) else [images]
    named = [image for image in images if image.get("Name") == series.name]
    pixels = (named or images)[0].get("Pixels", {})
    return pixels if isinstance(pixels, dict) else {}


def _ome_size(handle: tifffile.TiffFile, series: Any) -> FoundSize:
    pixels, lengths = _ome_pixels(handle, series), Lengths("OME-XML")
    return lengths.found(
        [
            lengths.read(
                f"PhysicalSize{axis}",
                pixels.get(f"PhysicalSize{axis}"),
                pixels.get(f"PhysicalSize{axis}Unit", "µm"),
            )
            for axis in "ZYX"
        ]
    )


def _imagej_size(handle: tifffile.TiffFile, series: Any) -> FoundSize:
    """Return the size as ImageJ takes it from its own files.

    It leaves out what it takes for granted: a distance of sections of exactly 1, and
    the units along y and z where they are that of x.
    """
    about, lengths = handle.imagej_metadata or {}, Lengths("ImageJ")
    unit, tags = about.get("unit", ""), handle.pages.first.tags
    sides = []
    for axis, key, own in (("y", "YResolution", "yunit"), ("x", "XResolution", "unit")):
        pixels, length = tags[key].value if key in tags else (0, 0)
        side = length / pixels if pixels else None
        own_unit = str(about.get(own, unit)).strip().lower()
        if side and own_unit in INCHES and round(1 / side) in PRINTED:
            lengths.doubts.append(
                f"ImageJ says {1 / side:g} pixels an inch along {axis}, which is how "
                "pictures are printed and no size of a voxel: it is not believed"
            )
            side = None
        sides.append(lengths.read(f"{axis} side", side, about.get(own, unit)))
    count = dict(zip(series.axes.lower(), series.shape, strict=True))
    is_stack = any(count.get(axis, 1) > 1 for axis in SECTION_AXES)
    step = about.get("spacing", IMAGEJ_STEP if is_stack and any(sides) else None)
    step = abs(step) if isinstance(step, int | float) else step
    z = lengths.read("spacing", step, about.get("zunit", unit))
    return lengths.found([z, *sides])


def _svs_size(handle: tifffile.TiffFile) -> FoundSize:
    lengths = Lengths("the slide's description")
    about = tifffile.tifffile.svs_description_metadata(handle.pages.first.description)
    side = lengths.read("MPP", about.get("MPP"), "µm")
    return lengths.found([None, side, side])
