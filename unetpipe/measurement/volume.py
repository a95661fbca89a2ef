"""The objects of a stored volume, as records tell of it, ready to be measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from unetpipe.config.measurement import MeasureConfig
from unetpipe.errors import ConfigError
from unetpipe.measurement.columns import name_columns
from unetpipe.measurement.passes import Objects
from unetpipe.records.segmentation import Segmentation
from unetpipe.records.volume import IngestedVolume
from unetpipe.storage.volumes import open_volume, shard_shape
from unetpipe.tiling.boxes import AXES, UNKNOWN_SIZE
from unetpipe.tiling.scale import SizeNm

BOX = [f"{side}_{axis}" for axis in "zyx" for side in ("start", "stop")]


@dataclass(frozen=True, slots=True)
class MeasureInputs:
    """What every job of a measurement is told.

    Attributes
    ----------
    segmentation, ingest : Path
        Records of the objects and of the image.
    settings : MeasureConfig
    """

    segmentation: Path
    ingest: Path
    settings: MeasureConfig


@dataclass(frozen=True, slots=True)
class MeasuredVolume:
    """One volume's objects.

    Attributes
    ----------
    segmentation : Segmentation
    named : pyarrow.Table
        The table of objects that the segmentation wrote.
    objects : Objects
    """

    segmentation: Segmentation
    named: pa.Table
    objects: Objects


def open_measured(inputs: MeasureInputs) -> MeasuredVolume:
    """Open stores and table of a volume.

    Raises
    ------
    ConfigError
        If a channel is to be measured that the image has not.
    """
    made = Segmentation.read(inputs.segmentation)
    volume = IngestedVolume.read(inputs.ingest)
    named = parquet.read_table(made.table["parquet"].path)
    ids, settings = open_volume(made.objects), inputs.settings
    channels = choose_measured_channels(volume, settings.channels)
    is_flat = ids.shape[0] == 1 or made.identity.settings.connectivity == "2d"
    size, length = _measure_of_length(volume, is_flat=is_flat)
    columns = name_columns(
        settings.names,
        list(channels),
        is_flat=is_flat,
        length=length,
        axes=AXES if volume.is_depth_known or length == "vox" else AXES[1:],
    )
    is_grey = any(column.channel for column in columns)
    boxes = [named[name].to_numpy().astype(np.int64) for name in BOX]
    objects = Objects(
        boxes=np.stack(boxes, axis=1),
        ids=ids,
        image=open_volume(volume.image.store),
        channels=channels if is_grey else {},
        block=shard_shape(ids),
        voxel_size_nm=size,
        is_flat=is_flat,
        reach_nm=settings.neighbour_reach_vox * min(size),
        columns=columns,
    )
    return MeasuredVolume(made, named, objects)


def _measure_of_length(volume: IngestedVolume, *, is_flat: bool) -> tuple[SizeNm, str]:
    """Return how long the edges of a voxel are, and the unit of that.

    Objects across sections have no length in nanometres where nobody knows how far
    these are apart.
    """
    is_told = volume.known_size_nm and (is_flat or volume.is_depth_known)
    return (volume.voxel_size_nm, "nm") if is_told else (UNKNOWN_SIZE, "vox")


def choose_measured_channels(
    volume: IngestedVolume, wanted: str | tuple[str | int, ...]
) -> dict[str, int]:
    """Return name and number of the channels that are measured.

    Channels without names, or that share one, are called by their numbers.
    """
    names = volume.channel_names
    if len(set(names)) < volume.num_channels or not all(names):
        names = tuple(map(str, range(volume.num_channels)))
    by_word = {str(number): number for number in range(len(names))}
    by_word |= {name: number for number, name in enumerate(names)}
    words = names if isinstance(wanted, str) else tuple(map(str, wanted))
    if unknown := [word for word in words if word not in by_word]:
        raise ConfigError(
            f"measure.channels names {unknown[0]!r}, but the channels of volume "
            f"{volume.volume} are {', '.join(names)}; use these, or numbers from 0"
        )
    numbers = [by_word[word] for word in words]
    return {names[number]: number for number in numbers}


def class_of_objects(
    made: Segmentation, class_names: Sequence[str] | None
) -> dict[int, str]:
    """Return the name of each object's class; nothing if all are of one."""
    kinds = parquet.read_table(made.table["parquet"].path, columns=["class"])
    values = kinds["class"].to_pylist()
    if len(set(values)) < 2 and class_names is None:
        return {}
    names = dict(enumerate(class_names or ()))
    return {
        number: names.get(kind, f"class {kind}")
        for number, kind in enumerate(values, start=1)
    }


def measured_of_objects(made: Segmentation) -> dict[str, NDArray[Any]]:
    """Return what the table of objects tells of each, by name, shape (objects,)."""
    names = ["voxels", "mean_probability"]
    table = parquet.read_table(made.table["parquet"].path, columns=names)
    return {name: table[name].to_numpy() for name in names}
