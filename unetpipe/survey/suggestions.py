"""What the annotated sections suggest for settings, and why; nothing is applied.

Sizes, spacing, cells and classes of the training sections are a *fingerprint*; rules of
thumb turn it into suggestions, each with the figures it comes from. They are a place to
begin, not the best there is.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil, log2, pi, sqrt
from typing import Any

import numpy as np

from unetpipe.records.suggestions import MeasuredVolume
from unetpipe.records.volume import IngestedVolume
from unetpipe.records.weight_map import WeightMap
from unetpipe.targets.annotated import AnnotatedRow
from unetpipe.tiling.boxes import Zyx, as_zyx
from unetpipe.tiling.patch_size import choose_patch
from unetpipe.tiling.unet_spec import UNetSpec

# Sections thicker than so many voxel widths: each is seen by itself (nnU-Net's rule).
LARGEST_ANISOTROPY = 3.0
# With fewer sections there is little to see across them.
FEWEST_SECTIONS = 16
# Passes over the annotated voxels, and the steps that are worth the name of training.
PASSES, FEWEST_STEPS, MOST_STEPS = 200, 2000, 40_000
# Below, the paper's constant rate has no time to act: a higher one that decays.
SHORT_TRAINING = 10_000
# Annotated voxels for which so many channels are worth their cost.
WIDTHS = ((4_000_000, 64), (500_000, 32), (0, 16))
# A cell and its neighbours should fit into the receptive field.
CELLS_IN_FIELD = 2.0
# Half the resolution shows larger cells at a quarter of the cost; not smaller ones.
SMALLEST_HALVED_VOX = 40.0
# At the deepest level a cell should still be about a voxel wide.
SMALLEST_CELL_DEEP_VOX = 0.5
# Class weights farther apart than this make the rare class's borders thick.
LARGEST_WEIGHT_RATIO = 10.0
SIGMA_OF_CELL = 1 / 8
RARE_SHARE = 0.1  # of the cells
PAPER_SIGMA_VOX = 5.0


@dataclass(frozen=True, slots=True)
class VolumePrint:
    """What the records say of the training sections of one volume.

    Attributes
    ----------
    volume : str
        Its name.
    section_shape : (y, x)
        Voxels of a section.
    num_sections : int
        Annotated sections with role train.
    voxel_size_nm : (z, y, x)
        Size of a voxel.
    class_counts : tuple of int
        Known voxels of each class.
    num_cells : int
        Cells, section by section.
    cell_voxels : int
        Voxels of cells.
    is_size_known : bool
        Whether the sheet or the file gave the size of a voxel.
    is_depth_known : bool
        Whether they told how far sections are apart.
    has_ids : bool
        Whether somebody told cells apart; pieces of a mask may be wide nets of thin
        lines.
    """

    volume: str
    section_shape: tuple[int, int]
    num_sections: int
    voxel_size_nm: tuple[float, float, float]
    class_counts: tuple[int, ...]
    num_cells: int
    cell_voxels: int
    is_size_known: bool = True
    is_depth_known: bool = True
    has_ids: bool = False

    @property
    def cell_diameter_vox(self) -> float | None:
        """Diameter of a disc of the mean area of a cell; None without cells."""
        if not self.num_cells:
            return None
        return 2 * sqrt(self.cell_voxels / self.num_cells / pi)

    def halved(self) -> "VolumePrint":
        """Return what it would be at half the resolution, along y and x."""
        height, width = self.section_shape
        z, y, x = self.voxel_size_nm
        return replace(
            self,
            section_shape=(max(1, height // 2), max(1, width // 2)),
            voxel_size_nm=(z, 2 * y, 2 * x),
            class_counts=tuple(n // 4 for n in self.class_counts),
            cell_voxels=self.cell_voxels // 4,
        )


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One setting: what it is, what is suggested, and why."""

    key: str
    now: Any
    suggested: Any
    why: str

    @property
    def is_change(self) -> bool:
        """Whether something else is suggested than what is set."""
        return bool(self.now != self.suggested)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "is_change": self.is_change}


def measure_row(row: AnnotatedRow, border_class: int | None) -> VolumePrint:
    """Return the fingerprint of one row's sections."""
    volume, weights = IngestedVolume.read(row.ingest), WeightMap.read(row.weight_map)
    depth, height, width = volume.shape
    sections = range(depth) if row.sections is None else row.sections
    counts = [weights.class_counts[z] for z in sections]
    totals = tuple(map(sum, zip(*counts, strict=True)))
    # Cells are class 1 of ids and masks; of classes, all that is not the border.
    cells = totals[1]
    if volume.labels and volume.labels.label_kind == "classes":
        cells = 0 if border_class is None else sum(totals) - totals[border_class]
    return VolumePrint(
        volume=volume.volume,
        section_shape=(height, width),
        num_sections=len(counts),
        voxel_size_nm=volume.voxel_size_nm,
        class_counts=totals,
        num_cells=sum(weights.num_cells[z] for z in sections),
        cell_voxels=cells,
        is_size_known=volume.voxel_size_from != "nobody",
        is_depth_known=volume.is_depth_known,
        has_ids=volume.labels is not None and volume.labels.label_kind == "instances",
    )


def describe_measured(volume: VolumePrint) -> MeasuredVolume:
    """Return what a record tells of it."""
    return MeasuredVolume(
        volume=volume.volume,
        section_shape=volume.section_shape,
        num_sections=volume.num_sections,
        voxel_size_nm=volume.voxel_size_nm,
        is_depth_known=volume.is_depth_known,
        class_counts=volume.class_counts,
        class_weights=tuple(suggest_class_weights(volume.class_counts)),
        num_cells=volume.num_cells,
        cell_diameter_vox=volume.cell_diameter_vox,
    )


def suggest(
    volumes: Sequence[VolumePrint],
    spec: UNetSpec,
    settings: dict[str, dict[str, Any]],
    patch: Zyx,
) -> list[Suggestion]:
    """Return suggestions for the settings that depend most on the data.

    Parameters
    ----------
    volumes : sequence of VolumePrint
        With training sections; at least one.
    spec : UNetSpec
        The network as configured.
    settings : dict
        ``ingest``, ``network``, ``training`` and ``weight_map`` as configured.
    patch : (z, y, x)
        What training would take now.
    """
    network, training = settings["network"], settings["training"]
    known = sum(sum(v.class_counts) for v in volumes)
    ndim = _ndim(volumes, network)
    if ndim.is_change:
        spec = replace(spec, ndim=ndim.suggested, pooling=(), affinity_offsets=())
    scale = _scale(volumes, spec, settings["ingest"])
    if scale.is_change:
        volumes = [volume.halved() for volume in volumes]
        known //= 4
    suggested_patch = _patch(volumes, spec)
    steps, rate = _steps(known, spec, suggested_patch, training)
    return [
        ndim,
        scale,
        _depth(volumes, spec, network),
        _width(known, network),
        Suggestion(
            "training.patch",
            list(patch),
            list(suggested_patch),
            f"the largest section has {_largest(volumes)} voxels; large tiles rather "
            "than a large batch (paper, Sect. 3), up to 572 voxels; less if memory or "
            "time are short",
        ),
        steps,
        *rate,
        *_weights(volumes, settings["weight_map"]),
    ]


def suggest_class_weights(counts: Sequence[int]) -> list[float | None]:
    """Return n / (K n_k) of each class, None of one that does not occur."""
    total = sum(counts)
    return [total / (len(counts) * n) if n else None for n in counts]


def suggest_rate(steps: int) -> tuple[dict[str, Any], str]:
    """Return optimiser, rate, schedule, warm-up and clipping for so many steps; why.

    Parameters
    ----------
    steps : int
        Of the whole training.
    """
    if steps > SHORT_TRAINING:
        values = {
            "optimizer": "sgd",
            "learning_rate": 1e-3,
            "schedule": "constant",
            "warmup_steps": 0,
            "gradient_clip": None,
        }
        return (
            values,
            f"{steps} steps are long enough for the paper's way, with momentum 0.99",
        )
    values = {
        "optimizer": "adamw",
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "warmup_steps": 30,
        "gradient_clip": 1.0,
    }
    return values, (
        f"{steps} steps are short: Adam with a rate that decays, clipped, as chosen on "
        "the validation sections of ISBI 2012 (config/isbi2012.yaml)"
    )


def suggestion_remarks(
    volumes: Sequence[VolumePrint], spec: UNetSpec, *, has_validation: bool
) -> list[str]:
    """Return what no setting can mend, and what a reader should know of the data."""
    found = []
    widths = [v.voxel_size_nm[2] for v in volumes if v.is_size_known]
    if widths and max(widths) > 1.5 * min(widths):
        found.append(
            f"voxels are {min(widths):g} to {max(widths):g} nm wide; one network sees "
            "cells of one size best: bring the volumes to one voxel size"
        )
    diameters = [d for v in volumes if (d := v.cell_diameter_vox) is not None]
    field = min(spec.halo.total[1:])
    if diameters and max(diameters) > field:
        found.append(
            f"cells are about {max(diameters):.0f} voxels wide, more than the "
            f"{field} voxels that the network sees around each voxel: it knows "
            "their insides by texture only; a coarser resolution would show more"
        )
    if not has_validation:
        found.append(
            "no section has the role validate: keep one in five, or thresholds and "
            "checkpoint are not chosen at all"
        )
    num_sections = sum(v.num_sections for v in volumes)
    if num_sections < 5:
        found.append(
            f"{num_sections} annotated training section{'s' * (num_sections != 1)}; "
            "the paper trained on 30, and elastic deformation carries few only so far"
        )
    return found


def nested_settings(suggestions: Sequence[Suggestion]) -> dict[str, dict[str, Any]]:
    """Return the changes as sections of a configuration."""
    nested: dict[str, dict[str, Any]] = {}
    for suggestion in suggestions:
        if suggestion.is_change:
            section, _, key = suggestion.key.partition(".")
            nested.setdefault(section, {})[key] = suggestion.suggested
    return nested


def _largest(volumes: Sequence[VolumePrint]) -> str:
    height, width = (max(v.section_shape[k] for v in volumes) for k in (0, 1))
    return f"{height} x {width}"


def _patch(volumes: Sequence[VolumePrint], spec: UNetSpec) -> Zyx:
    sections: list[Zyx] = []
    for volume in volumes:
        depth = volume.num_sections if spec.ndim == 3 else 1
        sections.append(as_zyx((depth, *volume.section_shape)))
    return choose_patch(None, spec, sections)


def _ndim(volumes: Sequence[VolumePrint], network: dict[str, Any]) -> Suggestion:
    key, now = "network.ndim", network["ndim"]
    sections = max(v.num_sections for v in volumes)
    if sections < FEWEST_SECTIONS:
        why = (
            f"the longest run of a volume has {sections} annotated "
            f"section{'s' * (sections != 1)}; volumetric networks pay from "
            f"{FEWEST_SECTIONS} on"
        )
        return Suggestion(key, now, 2, why)
    if not all(v.is_size_known and v.is_depth_known for v in volumes):
        why = (
            "nobody says how far sections are apart, or whether they are time points; "
            f"for volumes with sections less than {LARGEST_ANISOTROPY:g} voxel widths "
            "apart (voxel_size_nm in the sheet) consider 3"
        )
        return Suggestion(key, now, now, why)
    ratios = [v.voxel_size_nm[0] / min(v.voxel_size_nm[1:]) for v in volumes]
    if min(ratios) * LARGEST_ANISOTROPY < 1:
        z, y, x = next(
            v.voxel_size_nm
            for v, ratio in zip(volumes, ratios, strict=True)
            if ratio == min(ratios)
        )
        why = (
            f"voxel_size_nm is {z:g},{y:g},{x:g}: sections so close together are time "
            "points or images of their own, so each is seen by itself"
        )
        return Suggestion(key, now, 2, why)
    why = (
        f"sections are {max(ratios):.3g} voxel widths apart, and the longest run of a "
        f"volume has {sections}; volumetric networks pay where that is below "
        f"{LARGEST_ANISOTROPY:g} and there are {FEWEST_SECTIONS} or more"
    )
    is_flat = max(ratios) >= LARGEST_ANISOTROPY
    return Suggestion(key, now, 2 if is_flat else 3, why)


def _common_diameters(volumes: Sequence[VolumePrint]) -> tuple[float, float] | None:
    """Return how wide cells are, from small to large; rare sizes do not count.

    Of the volumes' mean diameters, those that a tenth of all cells lie below and above.
    """
    sizes = sorted(
        (d, v.num_cells) for v in volumes if (d := v.cell_diameter_vox) is not None
    )
    if not sizes:
        return None
    counted = np.cumsum([number for _, number in sizes]) / sum(n for _, n in sizes)
    low, high = np.searchsorted(counted, (RARE_SHARE, 1 - RARE_SHARE))
    return sizes[low][0], sizes[high][0]


def _scale(
    volumes: Sequence[VolumePrint], spec: UNetSpec, ingest: dict[str, Any]
) -> Suggestion:
    """Suggest half the resolution where cells are large and sections seen alone."""
    diameters = _common_diameters(volumes)
    key, now = "ingest.scale", ingest["scale"]
    has_ids = all(v.has_ids for v in volumes if v.num_cells)
    if diameters is None or not has_ids or spec.ndim == 3:
        return Suggestion(key, now, now, "half of it is for large cells in sections")
    smallest, largest = diameters
    field = min(spec.halo.total[1:])
    if CELLS_IN_FIELD * largest <= field or smallest < SMALLEST_HALVED_VOX:
        why = f"cells are {smallest:.0f} voxels wide or more, the network sees {field}"
        return Suggestion(key, now, now, why)
    factor = now if isinstance(now, float) else 1.0
    return Suggestion(
        key,
        now,
        factor / 2,
        f"cells are about {largest:.0f} voxels wide, the network sees {field} voxels "
        "around: not a cell with its neighbours; at half the resolution it does, and "
        "learns and predicts at a quarter of the cost",
    )


def _depth(
    volumes: Sequence[VolumePrint], spec: UNetSpec, network: dict[str, Any]
) -> Suggestion:
    diameters = _common_diameters(volumes)
    key, now = "network.depth", network["depth"]
    if diameters is None:
        return Suggestion(key, now, now, "there are no cells to measure")
    smallest, largest = diameters
    field = min(spec.halo.total[1:])
    widths = dict.fromkeys(f"{width:.0f}" for width in (smallest, largest))
    why = (
        f"cells are about {' to '.join(widths)} voxels wide, the network sees {field} "
        "voxels around"
    )
    if CELLS_IN_FIELD * largest > field:
        return Suggestion(
            key,
            now,
            min(6, now + 1),
            f"{why}: not a cell with its neighbours; one more pooling doubles that",
        )
    deepest = max(1, ceil(log2(smallest / SMALLEST_CELL_DEEP_VOX)))
    if deepest < now:
        return Suggestion(
            key,
            now,
            deepest,
            f"{why}; at the deepest level a cell is {smallest / 2**now:.2f} voxels "
            "wide: fewer poolings lose nothing and cost less",
        )
    return Suggestion(key, now, now, f"{why}: enough for a cell with its neighbours")


def _width(known: int, network: dict[str, Any]) -> Suggestion:
    width = next(width for least, width in WIDTHS if known >= least)
    return Suggestion(
        "network.base_channels",
        network["base_channels"],
        width,
        f"{known / 1e6:.2f} million annotated voxels; the paper's 64 channels learned "
        "from 7.9 million. 32 cost a quarter of the time",
    )


def _steps(
    known: int, spec: UNetSpec, patch: Zyx, training: dict[str, Any]
) -> tuple[Suggestion, list[Suggestion]]:
    output = int(np.prod(spec.output_shape(patch)))
    wanted = PASSES * known / output / training["batch_size"]
    steps = int(min(MOST_STEPS, max(FEWEST_STEPS, 500 * ceil(wanted / 500))))
    suggestion = Suggestion(
        "training.steps",
        training["steps"],
        steps,
        f"a patch teaches {output} voxels; so many steps pass {known} annotated ones "
        f"about {steps * output * training['batch_size'] / known:.0f} times "
        f"({PASSES} wanted, {FEWEST_STEPS} to {MOST_STEPS} steps)",
    )
    wanted_values, why = suggest_rate(steps)
    return suggestion, [
        Suggestion(f"training.{key}", training[key], value, why)
        for key, value in wanted_values.items()
    ]


def _weights(
    volumes: Sequence[VolumePrint], weight_map: dict[str, Any]
) -> list[Suggestion]:
    counts = np.sum([v.class_counts for v in volumes], axis=0).tolist()
    weights = suggest_class_weights(counts)
    there = [w for w in weights if w is not None]
    ratio = max(there) / min(there)
    shares = ", ".join(f"{100 * n / sum(counts):.1f} %" for n in counts)
    named = ", ".join("-" if w is None else f"{w:.2f}" for w in weights)
    found = [
        Suggestion(
            "weight_map.class_balance",
            weight_map["class_balance"],
            "root" if ratio > LARGEST_WEIGHT_RATIO else True,
            f"classes hold {shares} of the known voxels, so they would weigh {named}; "
            f"the rarest {ratio:.3g} times the commonest (up to "
            f"{LARGEST_WEIGHT_RATIO:g} is taken, more makes rare classes swell: then "
            "the square root is)",
        )
    ]
    diameters = _common_diameters(volumes)
    if diameters and weight_map["enabled"]:
        reach = float(round(diameters[0] * SIGMA_OF_CELL))
        sigma = min(PAPER_SIGMA_VOX, max(1.0, reach))
        found.append(
            Suggestion(
                "weight_map.sigma_vox",
                weight_map["sigma_vox"],
                sigma,
                f"cells are {diameters[0]:.0f} voxels wide or more; the border's "
                f"weight should reach an eighth of that, {PAPER_SIGMA_VOX:g} at most "
                "(paper)",
            )
        )
    return found
