"""The eight ways to lay a section before the network: quarter turns, mirror images.

An orientation has a *frame*: the axes as the network sees them. The volume's y or x
may run backwards in it, and the two may have swapped places. In its own frame every
orientation keeps to the laws of the plain one: each tile starts on the pooling grid
and sees the same halo before and after. Seen from the volume, the frame of a flipped
axis begins at the far end of the section, rounded up to the grid, and its halo is
the other way round::

    volume's x   0                              n    rounded up
    plain        |bb|tile 0 |tile 1 |tile 2 |...|--|aaa|
    flipped   |aaa|tile 0 |tile 1 |tile 2 |...|--|bb|

    b  halo before (92 in the paper's network)      a  halo after (96)

So one pass over the whole section in an orientation means: pad the section with mirror
images by this halo, lay it, one forward, lay it back. Tiles agree with it, because the
rounded length and every stride are multiples of the pooling grid.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from unetpipe.errors import GeometryError
from unetpipe.tiling.boxes import AXES, Halo, Zyx, as_zyx


@dataclass(frozen=True, slots=True)
class Orientation:
    """Flip y and x of the volume where told, then swap them if turned."""

    is_turned: bool
    flips_y: bool
    flips_x: bool

    def lay(self, shape: Zyx) -> Zyx:
        """Return a shape of the volume in the frame, or one of the frame back."""
        z, y, x = shape
        return (z, x, y) if self.is_turned else shape

    def halo(self, halo: Halo) -> Halo:
        """Return what the network's halo is, seen from the volume."""
        pairs = list(zip(self.lay(halo.before), self.lay(halo.after), strict=True))
        for axis, flips in ((1, self.flips_y), (2, self.flips_x)):
            if flips:
                pairs[axis] = pairs[axis][::-1]
        return Halo(as_zyx(p[0] for p in pairs), as_zyx(p[1] for p in pairs))


ORIENTATIONS = (
    Orientation(is_turned=False, flips_y=False, flips_x=False),
    Orientation(is_turned=True, flips_y=False, flips_x=True),
    Orientation(is_turned=False, flips_y=True, flips_x=True),
    Orientation(is_turned=True, flips_y=True, flips_x=False),
    Orientation(is_turned=False, flips_y=False, flips_x=True),
    Orientation(is_turned=True, flips_y=False, flips_x=False),
    Orientation(is_turned=False, flips_y=True, flips_x=False),
    Orientation(is_turned=True, flips_y=True, flips_x=True),
)
"""0 to 3: turned counter-clockwise by so many quarters; 4 to 7: mirrored along x, then
turned."""


def choose_orientations(average: int | Sequence[int]) -> tuple[int, ...]:
    """Return the numbers of the orientations to average, in rising order.

    Parameters
    ----------
    average : int or sequence of int
        The first 1, 4, 7 or 8 of ``ORIENTATIONS``, or their numbers. The paper averages
        7 (Sect. 4) without saying which.

    Examples
    --------
    >>> choose_orientations(4), choose_orientations([6, 0])
    ((0, 1, 2, 3), (0, 6))
    """
    return tuple(range(average) if isinstance(average, int) else sorted(average))


def widest_halo(orientations: Iterable[int], halo: Halo) -> Halo:
    """Return what a tile needs around it in the volume for all orientations."""
    halos = [ORIENTATIONS[number].halo(halo) for number in orientations]
    return Halo(
        as_zyx(map(max, zip(*(h.before for h in halos), strict=True))),
        as_zyx(map(max, zip(*(h.after for h in halos), strict=True))),
    )


def strides_in_frames(stride: Zyx, orientations: Iterable[int]) -> tuple[Zyx, ...]:
    """Return what a tile keeps in the frames: one shape, or a pair if some turn."""
    return tuple(dict.fromkeys(ORIENTATIONS[n].lay(stride) for n in orientations))


def check_stride(stride: Zyx, grid: Zyx, orientations: Iterable[int]) -> None:
    """Raise GeometryError unless a stride keeps to the pooling grid of every frame."""
    for number in orientations:
        needed = ORIENTATIONS[number].lay(grid)
        for axis in range(3):
            if stride[axis] % needed[axis]:
                raise GeometryError(
                    f"tile stride is {stride[axis]} voxels along {AXES[axis]}, not a "
                    f"multiple of the pooling grid {needed[axis]} that orientation "
                    f"{number} has there; use another stride, or average without "
                    "quarter turns"
                )
