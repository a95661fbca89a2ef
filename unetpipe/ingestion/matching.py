"""Bring a volume to the scale that a network learns at, as it is read."""

from collections.abc import Sequence

from unetpipe.config.sheet import Row
from unetpipe.errors import DataError
from unetpipe.images import ImageReader
from unetpipe.images.partial import partial_label_source
from unetpipe.images.scaled import label_parts_at_scale, rescaled_reader
from unetpipe.records.volume import OriginalGrid
from unetpipe.tiling.boxes import Zyx
from unetpipe.tiling.resampling import matched_shape, scaled_size
from unetpipe.tiling.scale import SizeNm


def match_scale(
    image: ImageReader,
    labels: ImageReader | None,
    size_nm: SizeNm,
    wanted_nm: SizeNm,
    ndim: int,
) -> tuple[ImageReader, ImageReader | None, OriginalGrid | None]:
    """Return readers at the wanted size of a voxel, and the grid that they replace.

    Parameters
    ----------
    image, labels : ImageReader
        Of one volume, of one shape.
    size_nm, wanted_nm : (z, y, x)
        Sizes of a voxel: the volume's, and the network's.
    ndim : int
        Of the network: sections stay as they are where it sees them one by one.

    Returns
    -------
    image, labels : ImageReader
        The same ones where nothing is to be done.
    original : OriginalGrid or None
        None: nothing was to be done.
    """
    new = matched_shape(image.zyx, size_nm, wanted_nm, ndim)
    if new == image.zyx:
        return image, labels, None
    original = OriginalGrid(shape=image.zyx, voxel_size_nm=size_nm)
    scaled = labels
    if labels is not None:
        partial = partial_label_source(labels)
        scaled = (
            label_parts_at_scale(partial, new)
            if partial
            else rescaled_reader(labels, new, is_labels=True)
        )
    return rescaled_reader(image, new), scaled, original


def matched_voxel_size(
    original: OriginalGrid | None, shape: Zyx, size_nm: SizeNm
) -> SizeNm:
    """Return the voxel size of a volume that may have been brought to another grid."""
    if original is None:
        return size_nm
    return scaled_size(size_nm, original.shape, shape)


def check_resampled(volume: str, rows: Sequence[Row], old: int, new: int) -> None:
    """Refuse rows of single sections of a volume whose sections are resampled.

    Raises
    ------
    DataError
        With what to write instead.
    """
    if old != new and any(len(row.section_numbers(old)) < old for row in rows):
        raise DataError(
            f"volume {volume} is resampled from {old} to {new} sections, so the "
            "sheet's sections name none of them; leave the column sections empty, or "
            "set ingest.scale: keep"
        )
