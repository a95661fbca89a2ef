"""Outlines in files of other programs: GeoJSON for QuPath, ROI sets for ImageJ."""

import json
import zipfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unetpipe.errors import ConfigError
from unetpipe.measurement.outlines import Polygon, Ring

Values = NDArray[np.integer[Any]] | NDArray[np.floating[Any]]

MOVE, LINE, CLOSE = 0.0, 1.0, 4.0  # steps of a path, as ImageJ counts them


@dataclass(frozen=True, slots=True)
class Planes:
    """Which plane of its user's file a section is.

    Attributes
    ----------
    are_frames : bool
        Sections are time points, not planes along z.
    time : int, optional
        Of a file with several time points, the one that the sections are of.
    has_channels : bool
        Each section has a plane of the file for each channel.

    Examples
    --------
    >>> Planes().of(5), Planes(are_frames=True).of(5), Planes(time=2).of(5)
    ((5, 0), (0, 5), (5, 2))
    """

    are_frames: bool = False
    time: int | None = None
    has_channels: bool = False

    def of(self, section: int) -> tuple[int, int]:
        """Return z and time of a section, from 0."""
        return (0, section) if self.are_frames else (section, self.time or 0)

    def in_imagej(self, section: int) -> dict[str, int]:
        """Return a section as ImageJ counts it, from 0: any channel's.

        ImageJ numbers the planes of a stack, channels among them; so where there are
        several along more than one axis, a plane is told by its axes.
        """
        if self.has_channels or self.time is not None:
            return dict(zip("zt", self.of(section), strict=True))
        return {"position": section}


class OutlineFile(Protocol):
    """A file that grows by one object of one section at a time."""

    def add(self, z: int, number: int, polygons: list[Polygon]) -> None:
        """Add the outline of an object in section ``z``."""


class GeoJson(AbstractContextManager["GeoJson"]):
    """Features as QuPath reads them (https://qupath.readthedocs.io, GeoJSON; RFC 7946).

    Parameters
    ----------
    path : Path
        Written under another name until it is whole.
    class_of : mapping
        Name of the class of an object, by its id; none: all are of one class.
    planes : Planes
        Where sections lie in the file that QuPath opens.
    measured : mapping
        What is known of objects 1, 2, ..., by name: QuPath shows it and colours by it.
    """

    def __init__(
        self,
        path: Path,
        class_of: Mapping[int, str],
        planes: Planes,
        measured: Mapping[str, Values],
    ) -> None:
        self._path, self._class_of, self._planes = path, class_of, planes
        self._measured = measured
        self._partial = path.with_name(f".{path.name}")
        self._file = self._partial.open("w")
        self._file.write('{"type": "FeatureCollection", "features": [')
        self._joiner = "\n"

    def add(self, z: int, number: int, polygons: list[Polygon]) -> None:
        """Add a feature."""
        rings = [[_closed(ring) for ring in (p.outer, *p.holes)] for p in polygons]
        is_one = len(rings) == 1
        plane_z, time = self._planes.of(z)
        told: dict[str, Any] = {"objectType": "detection", "name": str(number)}
        if number in self._class_of:
            told["classification"] = {"name": self._class_of[number]}
        known = {name: of[number - 1].item() for name, of in self._measured.items()}
        feature = {
            "type": "Feature",
            "geometry": {
                "type": "Polygon" if is_one else "MultiPolygon",
                "coordinates": rings[0] if is_one else rings,
                "plane": {"c": -1, "z": plane_z, "t": time},
            },
            "properties": told | {"measurements": {"id": number} | known},
        }
        self._file.write(self._joiner + json.dumps(feature))
        self._joiner = ",\n"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the file in its place, unless something went wrong."""
        self._file.write("\n]}\n")
        self._file.close()
        if kind is None:
            self._partial.replace(self._path)


class RoiSet(AbstractContextManager["RoiSet"]):
    """A zip of regions as ImageJ's ROI manager opens it.

    Parameters
    ----------
    path : Path
        Written under another name until it is whole.
    planes : Planes
        Where sections lie in the file that ImageJ opens.

    Raises
    ------
    ConfigError
        If the package that knows ImageJ's regions is not installed.
    """

    def __init__(self, path: Path, planes: Planes) -> None:
        try:
            import roifile
        except ImportError:
            raise ConfigError(
                "export_outlines names imagej, which needs the package roifile; `pip "
                "install unetpipe[tables]`, or take imagej off the list"
            ) from None
        self._rois: Any = roifile
        self._planes = planes
        self._path, self._partial = path, path.with_name(f".{path.name}")
        self._zip = zipfile.ZipFile(self._partial, "w", zipfile.ZIP_DEFLATED)

    def add(self, z: int, number: int, polygons: list[Polygon]) -> None:
        """Add a region: a polygon, or with holes or several pieces a composite."""
        name = f"{z + 1:04d}-{number:06d}"
        rings = [ring for p in polygons for ring in (p.outer, *p.holes)]
        place = self._planes.in_imagej(z)
        roi = self._rois.ImagejRoi.frompoints(rings[0], name=name, **place)
        roi.roitype = self._rois.ROI_TYPE.POLYGON
        corners = [corner for ring in rings for corner in ring]
        (left, top), (right, bottom) = (
            (end(x for x, _ in corners), end(y for _, y in corners))
            for end in (min, max)
        )
        roi.left, roi.top, roi.right, roi.bottom = left, top, right, bottom
        if len(rings) > 1:
            self._compose(roi, rings)
        # A fixed date, so that equal outlines are equal files.
        self._zip.writestr(zipfile.ZipInfo(f"{name}.roi"), roi.tobytes())

    def _compose(self, roi: Any, rings: list[Ring]) -> None:
        """Make a region of several rings, of which inner ones are holes."""
        path: list[float] = []
        for ring in rings:
            path += [MOVE, *ring[0]]
            for corner in ring[1:]:
                path += [LINE, *corner]
            path.append(CLOSE)
        roi.roitype = self._rois.ROI_TYPE.RECT
        roi.multi_coordinates = np.array(path, np.float32)
        roi.shape_roi_size = len(path)
        roi.integer_coordinates = roi.subpixel_coordinates = None
        roi.n_coordinates = 0

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the file in its place, unless something went wrong."""
        self._zip.close()
        if kind is None:
            self._partial.replace(self._path)


def _closed(ring: Ring) -> Ring:
    return [*ring, ring[0]]
