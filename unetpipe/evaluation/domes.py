"""The domes of a landscape: tops that stand so high above what is around them."""

import numba
import numpy as np
from numpy.typing import NDArray

Heights = NDArray[np.uint16]
Places = NDArray[np.int64]


def find_domes(heights: Heights, least: int) -> NDArray[np.bool_]:
    """Return the tops from which every way to a higher place leads down so far.

    Parameters
    ----------
    heights : uint16 array of any number of axes
    least : int
        How far down.

    Notes
    -----
    L. Vincent, Morphological grayscale reconstruction in image analysis, IEEE
    Transactions on Image Processing 2 (1993): two sweeps, then a queue. What was cut
    by ``least`` is rebuilt below the heights; neighbours share a corner.

    Examples
    --------
    >>> find_domes(np.array([0, 3, 2, 3, 0, 1], np.uint16), 2)
    array([False,  True, False,  True, False, False])
    """
    framed = np.pad(heights, 1)
    rebuilt = np.maximum(framed, least) - np.uint16(least)
    strides = [stride // framed.itemsize for stride in framed.strides]
    ring = np.ndindex((3,) * framed.ndim)
    steps = {
        sum((k - 1) * step for k, step in zip(at, strides, strict=True)) for at in ring
    }
    before = np.array(sorted(step for step in steps if step < 0))
    _rebuild(framed.reshape(-1), rebuilt.reshape(-1), before)
    inside = (slice(1, -1),) * framed.ndim
    return np.asarray((framed - rebuilt >= least)[inside])


@numba.njit(cache=True, nogil=True)
def _rebuild(
    heights: Heights, rebuilt: Heights, before: Places
) -> None:  # pragma: no cover
    """Raise what was cut as far as neighbours reach, never above the heights."""
    for here in range(heights.size):
        if heights[here]:  # never in the frame
            most = rebuilt[here]
            for step in before:
                most = max(most, rebuilt[here + step])
            rebuilt[here] = min(most, heights[here])
    queue, filled = np.empty(1 << 10, np.int64), 0
    for here in range(heights.size - 1, -1, -1):
        if not heights[here]:
            continue
        most = rebuilt[here]
        for step in before:
            most = max(most, rebuilt[here - step])
        rebuilt[here] = min(most, heights[here])
        for step in before:
            near = here - step
            if rebuilt[near] < min(rebuilt[here], heights[near]):
                if filled == queue.size:
                    queue = np.concatenate((queue, queue))
                queue[filled] = here
                filled += 1
                break
    while filled:  # the last first: the order is all the same
        filled -= 1
        here = queue[filled]
        for step in before:
            for near in (here + step, here - step):
                most = min(rebuilt[here], heights[near])
                if rebuilt[near] < most:
                    rebuilt[near] = most
                    if filled == queue.size:
                        queue = np.concatenate((queue, queue))
                    queue[filled] = near
                    filled += 1
