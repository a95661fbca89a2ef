"""How far each voxel is from its nearest and its second-nearest cell: exact, fast.

Of all cells, the two nearest to a voxel are among the two nearest of one of the rows
around it. So the search goes axis by axis, and its cost does not grow with the number
of cells.

::

    along x   . . 3 . . 7 .     for each voxel: the two nearest cells in its row
    along y   rows above and below are compared, outwards, until none can be nearer
    along z   sections before and after likewise
"""

from math import sqrt

import numba
import numpy as np
from numpy.typing import NDArray


def sum_two_distances(
    cells: NDArray[np.int32],
    is_wanted: NDArray[np.bool_],
    reach: int,
    edges: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> NDArray[np.float64]:
    """Return d1 + d2, the distances to the nearest and the second-nearest cell.

    Parameters
    ----------
    cells : int32 array, shape (z, y, x)
        One id a cell, in one piece or several; 0 is background.
    is_wanted : bool array, shape (z, y, x)
        Where to know the sum.
    reach : int
        Sums beyond it need not be known. What a voxel gets depends on no voxel farther
        away than this.
    edges : (z, y, x)
        Lengths of a voxel's edges; the shortest is 1.

    Returns
    -------
    float64 array, shape (z, y, x)
        In lengths of the shortest edge; infinite beyond ``reach`` and where it is not
        wanted. Along an axis of longer voxels the way to a cell leads to the face of
        its voxel, and half a shortest edge into it: ``n`` voxels of edge e apart are
        (n - 1/2) e + 1/2, so that gaps of equal length are equally wide.

    Examples
    --------
    >>> cells = np.array([[[5, 0, 0, 0, 8, 0]]], np.int32)
    >>> sum_two_distances(cells, cells == 0, 10)[0, 0].tolist()
    [inf, 4.0, 4.0, 4.0, inf, 6.0]
    """
    cells = np.ascontiguousarray(cells)
    # Of each voxel two cells, and the squares of the distances to them.
    near = np.empty((*cells.shape, 2), np.int32)
    squares = np.empty((*cells.shape, 2), np.float32)
    e_z, e_y, e_x = (float(edge) for edge in edges)
    _search_rows(cells, near, squares, reach, e_x)
    shape = cells.shape
    if shape[0] > 1:
        near, squares = _search_columns(near, squares, reach, e_y)
        # One axis up, sections are the columns: (1, z, y x).
        shape = (1, shape[0], shape[1] * shape[2])
        near, squares = near.reshape(*shape, 2), squares.reshape(*shape, 2)
    sums = np.empty(shape)
    last = e_z if cells.shape[0] > 1 else e_y
    _sum_columns(near, squares, is_wanted.reshape(shape), sums, reach, last)
    return sums.reshape(cells.shape)


@numba.njit(cache=True, nogil=True)
def _search_rows(cells, near, squares, reach, edge):  # type: ignore[no-untyped-def]
    """Find the two nearest cells in each row: from the left, then from the right."""
    depth, height, width = cells.shape
    beyond = float(reach * reach + 1)
    for z in range(depth):
        for y in range(height):
            for step in (1, -1):
                last, last_x, other, other_x = 0, 0, 0, 0
                for k in range(width):
                    x = k if step == 1 else width - 1 - k
                    cell = cells[z, y, x]
                    if cell != 0:
                        if cell != last:
                            other, other_x = last, last_x
                        last, last_x = cell, x
                    a, a2, b, b2 = 0, beyond, 0, beyond
                    if step == -1:
                        a, b = near[z, y, x, 0], near[z, y, x, 1]
                        a2 = float(squares[z, y, x, 0])
                        b2 = float(squares[z, y, x, 1])
                    if last != 0:
                        d2 = _square(abs(x - last_x), edge)
                        a, a2, b, b2 = _insert(last, d2, a, a2, b, b2)
                    if other != 0:
                        d2 = _square(abs(x - other_x), edge)
                        a, a2, b, b2 = _insert(other, d2, a, a2, b, b2)
                    near[z, y, x, 0], near[z, y, x, 1] = a, b
                    squares[z, y, x, 0], squares[z, y, x, 1] = a2, b2


@numba.njit(cache=True, nogil=True)
def _search_columns(near, squares, reach, edge):  # type: ignore[no-untyped-def]
    """Return the two nearest cells in the section, from those in its rows."""
    depth, height, width, _ = near.shape
    found, found_squares = np.empty_like(near), np.empty_like(squares)
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                a, b = near[z, y, x, 0], near[z, y, x, 1]
                a2, b2 = float(squares[z, y, x, 0]), float(squares[z, y, x, 1])
                k = 1
                # This loop stands again in _sum_columns: one function for both took
                # several times as long.
                step = _square(k, edge)
                while step < b2 and step <= reach * reach:
                    for row in (y - k, y + k):
                        if row < 0 or row >= height:
                            continue
                        d2 = squares[z, row, x, 0] + step
                        if d2 < b2:
                            cell = near[z, row, x, 0]
                            a, a2, b, b2 = _insert(cell, d2, a, a2, b, b2)
                            cell, d2 = near[z, row, x, 1], squares[z, row, x, 1] + step
                            a, a2, b, b2 = _insert(cell, d2, a, a2, b, b2)
                    k += 1
                    step = _square(k, edge)
                found[z, y, x, 0], found[z, y, x, 1] = a, b
                found_squares[z, y, x, 0], found_squares[z, y, x, 1] = a2, b2
    return found, found_squares


@numba.njit(cache=True, nogil=True)
def _sum_columns(near, squares, is_wanted, sums, reach, edge):  # type: ignore[no-untyped-def]
    """Search the last axis, no farther than a sum within reach allows.

    The nearest cell must be within half the reach, then the second within the rest.
    """
    depth, height, width = is_wanted.shape
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                sums[z, y, x] = np.inf
                if not is_wanted[z, y, x]:
                    continue
                a, b = near[z, y, x, 0], near[z, y, x, 1]
                a2, b2 = float(squares[z, y, x, 0]), float(squares[z, y, x, 1])
                k = 1
                step = _square(k, edge)
                while step < b2 and sqrt(step) <= max(reach / 2, reach - sqrt(a2)):
                    for row in (y - k, y + k):
                        if row < 0 or row >= height:
                            continue
                        d2 = squares[z, row, x, 0] + step
                        if d2 < b2:
                            cell = near[z, row, x, 0]
                            a, a2, b, b2 = _insert(cell, d2, a, a2, b, b2)
                            cell, d2 = near[z, row, x, 1], squares[z, row, x, 1] + step
                            a, a2, b, b2 = _insert(cell, d2, a, a2, b, b2)
                    k += 1
                    step = _square(k, edge)
                if sqrt(a2) + sqrt(b2) <= reach:
                    sums[z, y, x] = sqrt(a2) + sqrt(b2)


@numba.njit(cache=True, nogil=True)
def _square(count, edge):  # type: ignore[no-untyped-def]
    """Return the square of how far so many voxels are."""
    if count == 0:
        return 0.0
    length = (count - 0.5) * edge + 0.5
    return length * length


@numba.njit(cache=True, nogil=True)
def _insert(cell, d2, a, a2, b, b2):  # type: ignore[no-untyped-def]
    """Return the two nearest of three; the same cell counts once."""
    if d2 >= b2:
        return a, a2, b, b2
    if cell == a:
        return a, min(a2, d2), b, b2
    if d2 < a2:
        return cell, d2, a, a2
    return a, a2, cell, d2
