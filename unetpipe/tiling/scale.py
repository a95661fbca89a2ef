"""The scale that a network has learnt at, and what lies at another one."""

from collections.abc import Iterable
from math import isclose

from unetpipe.tiling.boxes import AXES, UNKNOWN_SIZE

SizeNm = tuple[float, float, float]
ToldSize = tuple[float | None, float, float]
"""Of a voxel; z is None where sections have no known distance, or are frames."""

SAME = 0.02  # relative: sizes are written with few digits


def told_size(size_nm: SizeNm, *, is_depth_known: bool) -> ToldSize:
    """Return the size of a voxel as stores and tables tell it.

    Examples
    --------
    >>> told_size((4.0, 4.0, 4.0), is_depth_known=False)
    (None, 4.0, 4.0)
    """
    is_told = is_depth_known or size_nm == UNKNOWN_SIZE
    return size_nm if is_told else (None, *size_nm[1:])


def common_voxel_size(sizes: Iterable[SizeNm | None]) -> SizeNm | None:
    """Return the size of a voxel that all have; None where they differ or one is none.

    Examples
    --------
    >>> common_voxel_size([(50, 4, 4), (50, 4.01, 4)])
    (50, 4, 4)
    >>> common_voxel_size([(50, 4, 4), None])
    """
    found = list(sizes)
    first = found[0] if found else None
    if first is None or any(s is None or differing_axes(first, s) for s in found):
        return None
    return first


def differing_axes(one: SizeNm, two: SizeNm) -> str:
    """Return the axes along which two sizes are not the same: letters of ``zyx``.

    Examples
    --------
    >>> differing_axes((50, 4, 4), (50, 8, 8))
    'yx'
    """
    pairs = zip(AXES, one, two, strict=True)
    return "".join(n for n, a, b in pairs if not isclose(a, b, rel_tol=SAME))


def describe_scale(learnt: SizeNm | None, own: SizeNm | None, ndim: int) -> str | None:
    """Say that a volume lies at another scale than a network has learnt at.

    Parameters
    ----------
    learnt, own : (z, y, x) or None
        Voxel sizes in nm, of the network and of the volume; None: nobody knows.
    ndim : int
        Of the network: one that sees sections asks nothing of their distance.

    Examples
    --------
    >>> describe_scale((50, 4, 4), (40, 8, 8), 2).split(";")[0]
    'voxels are 8 nm along y and x, and the network has learnt at 4 nm (2 times)'
    """
    if learnt is None or own is None:
        return None
    axes = [a for a in differing_axes(learnt, own) if a in AXES[-ndim:]]
    if not axes:
        return None
    sizes, known, ratios = (
        _list({a: value[AXES.index(a)] for a in axes})
        for value in (own, learnt, [a / b for a, b in zip(own, learnt, strict=True)])
    )
    return (
        f"voxels are {sizes} nm along {' and '.join(axes)}, and the network has learnt "
        f"at {known} nm ({ratios} times); name a fitting level of the pyramid in the "
        "sheet, or set ingest.scale: match to have the volume resampled"
    )


def _list(values: dict[str, float]) -> str:
    """Return numbers in words, equal ones once."""
    told = [f"{value:.4g}" for value in values.values()]
    return told[0] if len(set(told)) == 1 else " and ".join(told)
