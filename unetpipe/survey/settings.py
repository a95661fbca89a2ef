"""Settings to begin with: what annotations suggest, within an hour without a GPU."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, get_args

from unetpipe.config import (
    FieldOfInterest,
    IngestConfig,
    NetworkConfig,
    TrainingConfig,
    WeightMapConfig,
)
from unetpipe.metrics.for_labels import metric_for_labels
from unetpipe.runtime.machine import (
    has_bf16_instructions,
    has_cuda_driver,
    num_processors,
)
from unetpipe.runtime.text import describe_seconds
from unetpipe.survey.label_kinds import Kind
from unetpipe.survey.suggestions import (
    FEWEST_STEPS,
    Suggestion,
    VolumePrint,
    suggest,
    suggest_rate,
)
from unetpipe.tiling.boxes import Zyx, as_zyx
from unetpipe.tiling.forecast import Rate, assume_rate, training_flop
from unetpipe.tiling.patch_size import choose_patch

LONGEST_ON_CPU = 3600.0  # seconds of training
NARROWEST = 16
SMALL_PATCH: Zyx = (1, 412, 412)  # what the project's own small trainings take
ISOTROPIC = 3.0
MANY_TOUCH = 0.1  # of the objects, from which on they are cut apart
MEANINGS = {
    "v_rand": "V_Rand, which sees membranes",
    "f1": "F1 of the objects",
    "seg": "SEG of the objects that are annotated",
    "dice": "Dice of the voxels",
}
FOR_MEMBRANES = "these scores are for membranes between cells"
ONE_PART_VOXELS = 1 << 23  # predicted by one job


@dataclass(frozen=True, slots=True)
class Setting:
    """A key of the configuration, ``section.key``, its value, and why."""

    key: str
    value: Any
    why: str


def choose_settings(
    prints: Sequence[VolumePrint],
    kind: Kind,
    *,
    num_channels: int,
    rate: Rate | None,
) -> list[Setting]:
    """Return what differs from the defaults.

    Parameters
    ----------
    prints : sequence of VolumePrint
        Of what is trained on; at least one.
    kind : Kind
        Of the labels.
    num_channels : int
        Of the images.
    rate : Rate or None
        Of the processors; None: there is a GPU.
    """
    network = NetworkConfig(num_classes=kind.num_classes)
    training, weights = TrainingConfig(), WeightMapConfig()
    sections = [(1, *v.section_shape) for v in prints]
    spec = network.spec(num_channels)
    found = suggest(
        prints,
        spec,
        {
            "ingest": IngestConfig().model_dump(mode="json"),
            "network": network.model_dump(mode="json"),
            "training": training.model_dump(mode="json"),
            "weight_map": weights.model_dump(mode="json"),
        },
        choose_patch(None, spec, sections),
    )
    # Between objects training draws borders: how rare they are is not known yet.
    has_ids = kind.label_kind in ("instances", "masks")
    left_to_defaults = {"weight_map.class_balance"} if has_ids else set[str]()
    wanted = {
        s.key: Setting(s.key, s.suggested, s.why)
        for s in found
        if s.is_change and s.key not in left_to_defaults
    }
    if "ingest.scale" in wanted:
        sections = [(1, *v.halved().section_shape) for v in prints]
    if rate:
        wanted |= suggest_shorter_training(
            wanted, network, sections, num_channels, rate
        )
        why = "it is bf16, about twice as fast, where the processor has that, else fp32"
        wanted["training.precision"] = Setting("training.precision", "auto", why)
    else:
        why = "a GPU computes it several times as fast"
        for key in ("training.precision", "prediction.precision"):
            wanted[key] = Setting(key, "bf16", why)
    return list(wanted.values())


def compare_with_sheet(
    found: Sequence[Suggestion],
    network: NetworkConfig,
    shapes: Sequence[Zyx],
    num_channels: int,
) -> list[str]:
    """Say where ``make_sheet`` proposes something else than these suggestions, and why.

    Parameters
    ----------
    found : sequence of Suggestion
        For a machine with a GPU, of volumes that are ingested.
    network : NetworkConfig
        As configured.
    shapes : sequence of (z, y, x)
        Of what is trained on.
    num_channels : int
        Of the images.
    """
    said = []
    wanted = {s.key: Setting(s.key, s.suggested, s.why) for s in found}
    finer = 2 if any(s.key == "ingest.scale" and s.is_change for s in found) else 1
    sections = [(1, shape[1] // finer, shape[2] // finer) for shape in shapes]
    shorter = suggest_shorter_training(
        wanted, network, sections, num_channels, rate_of_processors()
    )
    if shorter and not has_cuda_driver():
        keys = ", ".join(f"{key} {own.value}" for key, own in shorter.items())
        said.append(
            "scripts/make_sheet.py proposes less where it finds no GPU, for an hour of "
            f"training ({keys}); what is suggested here takes a GPU, or patience"
        )
    if wanted["network.ndim"].value == 3:
        said.append(
            "scripts/make_sheet.py proposes network.ndim 2, sections by themselves, "
            "which is fast and never wrong; 3 may do better here"
        )
    return said


def describe_ndim(voxel_size_nm: tuple[float, float, float] | None, depth: int) -> str:
    """Return when a volumetric network would be worth a try, or nothing."""
    if depth < 16:
        return ""
    if voxel_size_nm is None:
        return (
            "the voxel size is not known; if voxels are about as long along z as in "
            "the plane, network.ndim: 3 may do better"
        )
    if voxel_size_nm[0] < ISOTROPIC * min(voxel_size_nm[1:]):
        return "voxels are about as long along z: network.ndim: 3 may do better"
    return ""


def suggest_scores(
    prints: Sequence[VolumePrint], kind: Kind, touching: float
) -> list[Setting]:
    """Return what chooses the network, and how objects are told apart and counted.

    Parameters
    ----------
    prints : sequence of VolumePrint
        Of what is trained on.
    kind : Kind
        Of the labels.
    touching : float
        Share of the objects that touch others.
    """
    counts = [sum(own) for own in zip(*(v.class_counts for v in prints), strict=True)]
    num_sections = sum(v.num_sections for v in prints)
    cells = sum(v.num_cells for v in prints)
    has_ids = kind.label_kind in ("instances", "masks")
    suited = metric_for_labels(
        counts, has_ids=has_ids, cells_per_section=cells / max(1, num_sections)
    )
    why = f"{suited.why}: {MEANINGS[suited.metric]} chooses checkpoint and threshold"
    found = [Setting("training.validation_metric", suited.metric, why)]
    if suited.metric in ("f1", "seg"):
        found += suggest_objects(touching)
    if suited.metric != "v_rand":
        found.append(Setting("evaluation.isbi_scores", False, FOR_MEMBRANES))
    return found


def suggest_objects(touching: float) -> list[Setting]:
    """Return how objects are told apart: what touches may have to be cut.

    Parameters
    ----------
    touching : float
        Share of the objects that touch others.
    """
    if touching >= MANY_TOUCH:
        why = (
            f"{touching:.0%} of the objects touch others: the validation rows choose "
            "between components and watersheds that cut them apart"
        )
        return [Setting("segmentation.method", "auto", why)]
    why = "the score of objects chooses below which size they are specks, too"
    return [Setting("segmentation.smallest_object_vox", "auto", why)]


def suggest_challenge(folder: str, touching: float, is_flat: bool) -> list[Setting]:
    """Return what the Cell Tracking Challenge scores by, and tracks.

    Parameters
    ----------
    folder : str
        Whose name may be that of a data set.
    touching : float
        Share of the objects that touch others.
    is_flat : bool
        Whether frames are sections; of stacks each is a volume.
    """
    why = "the challenge's own score chooses checkpoint and threshold"
    found = [
        Setting("training.validation_metric", "seg", why),
        *suggest_objects(touching),
        Setting("evaluation.isbi_scores", False, FOR_MEMBRANES),
    ]
    known = next(
        (n for n in get_args(FieldOfInterest) if n.casefold() in folder.casefold()),
        None,
    )
    if known:
        why = f"the folder's name says {known}: what lies at its edge is not annotated"
        found.append(Setting("evaluation.field_of_interest_vox", known, why))
    if is_flat:
        why = "sections are the frames of a sequence: objects are linked over them"
        found.append(Setting("track.enabled", True, why))
    return found


def suggest_parts(shapes: Sequence[Zyx]) -> list[Setting]:
    """Return one part for each prediction where all volumes are small."""
    if max(map(prod, shapes)) > ONE_PART_VOXELS:
        return []
    why = "each volume is small: one job predicts it"
    return [Setting("prediction.parts", 1, why)]


def rate_of_processors() -> Rate:
    """Return what the processors of this machine are assumed to train at."""
    return assume_rate("cpu", num_processors(), in_bf16=has_bf16_instructions())


def suggest_shorter_training(
    wanted: Mapping[str, Setting],
    network: NetworkConfig,
    sections: Sequence[Zyx],
    num_channels: int,
    rate: Rate,
) -> dict[str, Setting]:
    """Return a narrower network, or fewer steps, so that it is trained in an hour.

    Parameters
    ----------
    wanted : mapping
        Key -> setting, of what would be proposed with a GPU.
    network : NetworkConfig
        What counts where it proposes nothing.
    sections : sequence of (z, y, x)
        Shapes of what is trained on.
    num_channels : int
        Of the images.
    rate : Rate
        Of the processors.
    """

    def value(key: str, default: Any) -> Any:
        return wanted[key].value if key in wanted else default

    depth = value("network.depth", network.depth)
    width = value("network.base_channels", network.base_channels)
    steps = value("training.steps", TrainingConfig().steps)
    patch = value("training.patch", None)

    def seconds() -> float:
        changed = {"base_channels": width, "depth": depth}
        spec = network.model_copy(update=changed).spec(num_channels)
        shape = as_zyx(patch) if patch else None
        flop = training_flop(spec, shape, 1, list(sections))
        return float(steps * flop / rate.flop_per_second)

    before = seconds()
    while seconds() > LONGEST_ON_CPU and width > NARROWEST:
        width //= 2
    if seconds() > LONGEST_ON_CPU:
        fitting = int(steps * LONGEST_ON_CPU / seconds()) // 500 * 500
        steps = max(min(steps, FEWEST_STEPS), fitting)
    largest = max(max(shape[1:]) for shape in sections)
    if seconds() > LONGEST_ON_CPU and largest > SMALL_PATCH[1] // 2:
        patch = list(SMALL_PATCH)
    why = (
        "no GPU was found: about {} of training instead of "
        f"{describe_seconds(before)} ({rate.known_from}); fewer training.steps are "
        "quicker and learn less; with a GPU, put config/gpu.yaml behind this file"
    )
    why = why.format(describe_seconds(seconds()))
    changes = {
        "network.base_channels": (width, network.base_channels),
        "training.patch": (patch, None),
        "training.steps": (steps, TrainingConfig().steps),
    }
    shorter = {
        key: Setting(key, new, why)
        for key, (new, default) in changes.items()
        if new != value(key, default)
    }
    if "training.steps" in shorter:
        values, reason = suggest_rate(steps)
        shorter |= {
            f"training.{key}": Setting(f"training.{key}", new, reason)
            for key, new in values.items()
        }
    return shorter
