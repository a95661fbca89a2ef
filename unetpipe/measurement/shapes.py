"""Shapes of single objects, as scikit-image's ``regionprops`` defines them.

An object lies cut out in its box; the box decides nothing but the place.
"""

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, convolve
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist
from skimage.measure import (
    find_contours,
    marching_cubes,
    mesh_surface_area,
    regionprops,
)

Mask = NDArray[np.bool_]
Spacing = tuple[float, ...]

FLAT = ("orientation", "eccentricity", "perimeter")
SPATIAL = ("surface_area",)


# What an outline's voxel adds, by how many of its neighbours are of the outline:
# 1 for itself, 2 for each beside it, 10 for each at a corner.
NEIGHBOURS = np.array([[10, 2, 10], [2, 1, 2], [10, 2, 10]], np.uint8)
STEPS = np.zeros(50)
STEPS[[5, 7, 15, 17, 25, 27]] = 1
STEPS[[21, 33]] = np.sqrt(2)
STEPS[[13, 23]] = (1 + np.sqrt(2)) / 2
STRIP_VOXELS = 1 << 18  # that are looked at together


def outline_length(mask: Mask) -> float:
    """Return the length of an outline in voxels, as scikit-image's ``perimeter`` does.

    That looks at the whole object at once, in 70 bytes a voxel; here its voxels are
    counted strip by strip.

    Examples
    --------
    >>> outline_length(np.ones((4, 4), bool))
    12.0
    """
    height, width = mask.shape
    step, counts = max(1, STRIP_VOXELS // width), np.zeros(len(STEPS), np.int64)
    for top in range(0, height, step):
        # One row beyond for the outline, one more for what makes it one.
        first, stop = max(0, top - 2), min(top + step, height)
        strip = mask[first : stop + 2].astype(np.uint8)
        outline = strip - binary_erosion(strip)
        seen = convolve(outline, NEIGHBOURS, mode="constant")
        inside = seen[top - first : stop - first]
        counts += np.bincount(inside.ravel(), minlength=len(STEPS))
    return float(counts @ STEPS)


class Shape:
    """One object, cut out: shape (y, x) or (z, y, x), all other voxels False.

    Parameters
    ----------
    mask : bool array
        Touched by the object on each face.
    spacing : tuple of float
        Edges of a voxel; lengths come out in their unit.

    Examples
    --------
    >>> square = Shape(np.ones((4, 4), bool), (2.0, 2.0))
    >>> square.measure("perimeter"), square.measure("euler_number")
    (24.0, 1.0)
    """

    def __init__(self, mask: Mask, spacing: Spacing) -> None:
        self._mask, self._spacing = mask, spacing
        (self._region,) = regionprops(mask.astype(np.uint8), spacing=spacing)
        self._own: dict[str, Callable[[], float]] = {
            "axis_minor_length": self._axis_minor_length,
            "perimeter": self._perimeter,
            "surface_area": self._surface_area,
            "solidity": self._solidity,
            "feret_diameter_max": self._feret_diameter_max,
        }

    def measure(self, name: str) -> float:
        """Return a property; NaN where it has no meaning for this object."""
        own = self._own.get(name)
        return own() if own else float(getattr(self._region, name))

    def _axis_minor_length(self) -> float:
        """Return the shortest axis of the ellipse.

        Of an object one voxel thin, rounding may leave a square below 0, which
        scikit-image before 0.26 takes the root of.
        """
        try:
            return float(self._region.axis_minor_length)
        except ValueError:
            return 0.0

    def _perimeter(self) -> float:
        """Return the outline's length; only of voxels that are squares."""
        if len(set(self._spacing)) > 1:
            return np.nan
        return outline_length(self._mask) * self._spacing[0]

    def _surface_area(self) -> float:
        """Return the area of the surface that marching cubes draw at 0.5."""
        padded = np.pad(self._mask, 1).astype(np.float32)
        vertices, faces, _, _ = marching_cubes(padded, 0.5, spacing=self._spacing)
        return float(mesh_surface_area(vertices, faces))

    def _hull(self) -> Mask:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a hull without any extent
            hull: Mask = self._region.image_convex
        return hull

    def _solidity(self) -> float:
        convex = int(np.count_nonzero(self._hull()))
        return np.count_nonzero(self._mask) / convex if convex else np.nan

    def _feret_diameter_max(self) -> float:
        """Return the longest distance inside the convex hull's outline.

        Only corners of the outline's own hull can be farthest apart; the library
        compares all pairs, in memory that grows with their square.
        """
        hull = np.pad(self._hull(), 2)
        if not hull.any():
            return np.nan
        if hull.ndim == 2:
            places = np.vstack(find_contours(hull, 0.5, fully_connected="high"))
        else:
            places, _, _, _ = marching_cubes(hull, level=0.5)
        places = places * self._spacing
        corners = places[ConvexHull(places).vertices]
        return float(np.sqrt(pdist(corners, "sqeuclidean").max()))
