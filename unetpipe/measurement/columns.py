"""Names of properties and the columns that hold them, with the unit in each name.

::

    property             columns of objects in sections     of objects across them
    area                 area_nm2                           volume_nm3
    centroid             centroid_z_nm, _y_nm, _x_nm        the same
    intensity_mean       intensity_mean_<channel>           the same
    centroid_weighted    centroid_weighted_<channel>_z_nm   the same
    perimeter            perimeter_nm                       none
    surface_area         none                               surface_area_nm2

Where nobody told the size of a voxel, lengths are those of its edge: ``area_vox2``.
Where it is told but for z, sections have no ``centroid_z_nm``, and objects across them
are measured in edges.
"""

from collections.abc import Sequence

from unetpipe.measurement.shapes import FLAT, SPATIAL
from unetpipe.records.measurements import Column
from unetpipe.tiling.boxes import AXES

UNITS = {
    "axis_major_length": "nm",
    "axis_minor_length": "nm",
    "orientation": "rad",
    "eccentricity": "",
    "perimeter": "nm",
    "surface_area": "nm2",
    "solidity": "",
    "feret_diameter_max": "nm",
    "euler_number": "",
    "touches_border": "",
    "neighbour_distance": "nm",
}


def name_columns(
    properties: Sequence[str],
    channels: Sequence[str],
    *,
    is_flat: bool,
    length: str = "nm",
    axes: str = AXES,
) -> tuple[Column, ...]:
    """Return the columns of some properties, in their order.

    Parameters
    ----------
    properties : sequence of str
        As ``config.measurement.Property`` has them.
    channels : sequence of str
        Names of the channels that are measured.
    is_flat : bool
        Whether each object lies in one section.
    length : str
        The unit of lengths.
    axes : str
        Along which places are told.

    Examples
    --------
    >>> columns = name_columns(["area", "intensity_max"], ["DAPI"], is_flat=True)
    >>> [column.name for column in columns]
    ['area_nm2', 'intensity_max_DAPI']
    """
    unmeant = SPATIAL if is_flat else FLAT
    return tuple(
        column
        for name in properties
        if name not in unmeant
        for column in _columns_of(name, channels, is_flat, length)
        if column.axis is None or column.axis in axes
    )


def _columns_of(
    name: str, channels: Sequence[str], is_flat: bool, length: str
) -> list[Column]:
    if name == "area":
        kind, unit = ("area", f"{length}2") if is_flat else ("volume", f"{length}3")
        return [Column(name=f"{kind}_{unit}", property=name, unit=unit)]
    if name == "centroid":
        return [
            Column(name=f"{name}_{a}_{length}", property=name, unit=length, axis=a)
            for a in "zyx"
        ]
    if name == "centroid_weighted":
        return [
            Column(
                name=f"{name}_{channel}_{a}_{length}",
                property=name,
                unit=length,
                axis=a,
                channel=channel,
            )
            for channel in channels
            for a in "zyx"
        ]
    if name.startswith("intensity"):
        return [
            Column(
                name=f"{name}_{channel}", property=name, unit="grey", channel=channel
            )
            for channel in channels
        ]
    unit = UNITS[name].replace("nm", length)
    return [Column(name="_".join(filter(None, (name, unit))), property=name, unit=unit)]
