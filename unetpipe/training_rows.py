"""The sheet's training and validation rows: opened, checked, described."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.annotated import AnnotatedVolume, ArrayLike
from unetpipe.errors import ConfigError, DataError
from unetpipe.machine import GIB
from unetpipe.records import hash_of, read_record
from unetpipe.volumes import open_volume

# Volumes of fewer bytes are read once, larger ones patch by patch.
LARGEST_IN_MEMORY = 2 * GIB


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one role.

    Attributes
    ----------
    volumes : list of AnnotatedVolume
        One a row.
    class_counts : int64 array, shape (k,)
        Known voxels of each class in all of them.
    identity : list of dict
        Hashes and sections: what the trained bits depend on.
    empty_sections : list of str
        Sections that hold background only.
    """

    volumes: list[AnnotatedVolume]
    class_counts: NDArray[np.int64]
    identity: list[dict[str, Any]]
    empty_sections: list[str]


def load_rows(
    rows: list[dict[str, Any]], role: str, num_classes: int, *, with_border: bool
) -> Rows:
    """Open the volumes of one role.

    Parameters
    ----------
    rows : list of dict
        ``ingest`` and ``weight_map`` (paths of records), ``sections`` (numbers, None
        for all) and ``role``.
    role : "train" or "validate"
        Rows in other roles are left out.
    num_classes : int
        Classes of the network.
    with_border : bool
        Whether the border term weighs the loss.

    Raises
    ------
    ConfigError
        If a row names a section that is not there, or a weight map was computed for
        another number of classes.
    """
    found = Rows([], np.zeros(num_classes, np.int64), [], [])
    for row in rows:
        if row["role"] != role:
            continue
        volume = read_record(Path(row["ingest"]))
        weights = read_record(Path(row["weight_map"]))
        sections = row["sections"]
        if sections is None:
            sections = range(volume["shape"][0])
        numbers = tuple(sorted(sections))
        counts = _counts_of(numbers, volume, weights, num_classes)
        found.class_counts[:] += counts.sum(axis=0)
        annotated = _open_annotated(volume, weights, numbers, counts)
        found.volumes.append(
            annotated if with_border else replace(annotated, border=None)
        )
        found.identity.append(
            {
                "volume": volume["volume"],
                "sections": list(numbers),
                "image": volume["image"]["content_sha256"],
                "statistics": hash_of(volume["statistics"]),
                "target": weights["target"]["content_sha256"],
                "border_term": weights["border_term"]["content_sha256"]
                if with_border
                else None,
            }
        )
        found.empty_sections.extend(
            f"{volume['volume']} section {z}"
            for z, of_section in zip(numbers, counts, strict=True)
            if not of_section[1:].any()
        )
    return found


def check_rows(train: Rows, validate: Rows) -> None:
    """Raise ConfigError or DataError where no network can be learned from the rows."""
    if not train.volumes:
        raise ConfigError(
            "no row of the sheet has the role train; give it to annotated sections"
        )
    channels = {v.name: v.image.shape[0] for v in train.volumes + validate.volumes}
    if len(set(channels.values())) > 1:
        raise DataError(
            f"volumes differ in their number of channels: {channels}; one network "
            "takes one number, so train on volumes that have it"
        )
    present = np.flatnonzero(train.class_counts)
    if len(present) < 2:
        names = ", ".join(dict.fromkeys(v.name for v in train.volumes))
        raise DataError(
            f"the training sections of {names} hold known voxels of "
            f"{len(present)} classes ({present.tolist()}) only; a network needs at "
            "least two: check the labels, label_kind and unlabelled"
        )


def warnings_about(train: Rows, validate: Rows) -> list[str]:
    """Say what may be a mistake in the rows."""
    warnings = []
    absent = np.flatnonzero(train.class_counts == 0).tolist()
    if absent:
        warnings.append(f"no training voxel is of class {absent}; it weighs 1")
    if train.empty_sections:
        warnings.append(
            f"{len(train.empty_sections)} training sections hold background only: "
            + ", ".join(train.empty_sections[:10])
        )
    if not validate.volumes:
        warnings.append(
            "no row has the role validate: the last weights are taken, and thresholds "
            "are 0.5"
        )
    return warnings


def _counts_of(
    sections: tuple[int, ...],
    volume: dict[str, Any],
    weights: dict[str, Any],
    num_classes: int,
) -> NDArray[np.int64]:
    """Return the known voxels of each class in each section: shape (n, k)."""
    counts = np.array(weights["class_counts"], np.int64)
    if counts.shape[1] != num_classes:
        raise ConfigError(
            f"the weight map of volume {volume['volume']} has {counts.shape[1]} "
            f"classes, network.num_classes is {num_classes}; compute it again"
        )
    if sections and sections[-1] >= len(counts):
        raise ConfigError(
            f"the sheet names section {sections[-1]} of volume {volume['volume']}, "
            f"which has sections 0 to {len(counts) - 1}; correct the sheet"
        )
    of_sections: NDArray[np.int64] = counts[list(sections)]
    return of_sections


def _open_annotated(
    volume: dict[str, Any],
    weights: dict[str, Any],
    sections: tuple[int, ...],
    counts: NDArray[np.int64],
) -> AnnotatedVolume:
    mean, std = (
        np.array([channel[key] for channel in volume["statistics"]], np.float32)
        for key in ("mean", "std")
    )
    labels = volume["labels"]
    has_ids = labels["label_kind"] == "instances"
    z_nm, y_nm, x_nm = (float(edge) for edge in volume["voxel_size_nm"])
    return AnnotatedVolume(
        name=volume["volume"],
        image=_load(volume["image"]["store"]),
        target=_load(weights["target"]["store"]),
        border=_load(weights["border_term"]["store"]),
        mean=mean,
        std=std,
        sections=sections,
        num_known=tuple(counts.sum(axis=1).tolist()),
        # Read when objects are scored, and only then.
        instances=open_volume(Path(labels["store"])) if has_ids else None,
        unlabelled=labels["unlabelled"] if has_ids else None,
        voxel_size_nm=(z_nm, y_nm, x_nm),
    )


def _load(store: str) -> ArrayLike:
    """Return a volume as an array in memory if it is small, else as it lies on disk."""
    array: Any = open_volume(Path(store))
    return np.asarray(array[...]) if array.nbytes <= LARGEST_IN_MEMORY else array
