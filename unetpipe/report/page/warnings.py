"""Everything that a stage found odd, in a line each, with whom it concerns."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetpipe.records.metrics import Metrics
from unetpipe.records.model import Model
from unetpipe.records.volume import IngestedVolume, name_normalisation
from unetpipe.report.page.painting import shown_crop
from unetpipe.report.page.run import Network, Result, Run
from unetpipe.report.page.text import format_range
from unetpipe.runtime.text import count_noun, format_sections
from unetpipe.storage.volumes import open_volume
from unetpipe.tiling.scale import describe_scale

ALIKE = 0.9  # sections that correlate by more hardly differ
MOST_COMPARED = 4  # pairs of sections of a volume


def collect_warnings(run: Run) -> list[str]:
    """Return what was odd of volumes, of the network, and of what it made."""
    found = [
        f"{name}: {text}"
        for name, volume in run.volumes.items()
        for text in _of_volume(volume)
    ]
    found += warn_of_equal_volumes(run.volumes)
    network = run.network
    told = network.training.warnings if network.training else ()
    found += [f"{network.name}: {text}" for text in told]
    found += [
        f"{network.name}: {text}"
        for find in (warn_of_leaks, warn_of_near_leaks)
        for text in find(network, run.results, run.volumes)
    ]
    found += [
        f"{network.name} on {name}: {text}"
        for name in dict.fromkeys(result.volume for result in run.results)
        for text in (
            at_another_scale(network, run.volumes[name]),
            normalised_otherwise(network.description, run.volumes[name]),
        )
        if text
    ]
    found += [
        f"{result.model} on {result.volume}: {text}"
        for result in run.results
        for text in _of_result(result)
    ]
    return found


def warn_of_near_leaks(
    network: Network, results: Iterable[Result], volumes: Mapping[str, IngestedVolume]
) -> Iterator[str]:
    """Yield which test sections hardly differ from sections that it was trained on."""
    for result in results:
        if result.model != network.name:
            continue
        volume = volumes[result.volume]
        trained = network.seen_sections(volume).get("train", set())
        pairs = [(z, z + d) for z in result.tested for d in (-1, 1) if z + d in trained]
        if not pairs:
            continue
        image = open_volume(volume.image.store)
        middle = tuple(shown_crop(length) for length in volume.shape[1:])
        step = -(-len(pairs) // MOST_COMPARED)
        alike = [
            section_correlation(
                *(np.asarray(image[0, z, middle[0], middle[1]]) for z in pair)
            )
            for pair in pairs[::step]
        ]
        if np.mean(alike) >= ALIKE:
            numbers = format_sections(sorted({z for z, _ in pairs}))
            yield (
                f"test sections {numbers} of {result.volume} lie beside sections that "
                f"it was trained on and correlate with them by {np.mean(alike):.2f}, "
                "so their scores tell little of other volumes: leave a gap between "
                "roles in the sheet, or test on another volume"
            )


def section_correlation(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Return the correlation of two sections; 0 where one of them is flat."""
    a, b = (s.astype(np.float64) - s.mean(dtype=np.float64) for s in (first, second))
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale else 0.0


def warn_of_equal_volumes(volumes: Mapping[str, IngestedVolume]) -> list[str]:
    """Return which volumes hold the same voxels: one image under several names.

    Labels of boxes, such as corrected crops, are volumes beside that of their image.
    """
    alike: dict[str, list[str]] = {}
    for name, volume in volumes.items():
        is_of_boxes = volume.labels is not None and volume.labels.boxes is not None
        if volume.image.pixel_sha256 and not is_of_boxes:
            key = f"{volume.dtype}{volume.shape}{volume.image.pixel_sha256}"
            alike.setdefault(key, []).append(name)
    return [
        f"{' and '.join(names)} hold the same voxels: what is learnt from one is known "
        "of the other; keep one of them, or correct the sheet"
        for names in alike.values()
        if len(names) > 1
    ]


def warn_of_leaks(
    network: Network, results: Iterable[Result], volumes: Mapping[str, IngestedVolume]
) -> Iterator[str]:
    """Yield which test sections a network has learnt from, so that scores flatter.

    Of a network that was trained elsewhere no sheet has told it.
    """
    for result in results:
        if result.model != network.name:
            continue
        seen = network.seen_sections(volumes[result.volume])
        for role, what in (("train", "trained on"), ("validate", "chosen by")):
            if both := set(result.tested) & seen.get(role, set()):
                yield (
                    f"it was {what} the test sections {format_sections(sorted(both))} "
                    f"of {result.volume}, so their scores flatter"
                )


def at_another_scale(network: Network, volume: IngestedVolume) -> str | None:
    """Say that a volume lies at another scale than the network has learnt at."""
    described = network.description
    return describe_scale(
        described.voxel_size_nm, volume.known_size_nm, described.spec.ndim
    )


def normalised_otherwise(model: Model, volume: IngestedVolume) -> str | None:
    """Say that a network sees other grey values than it has learnt from."""
    if model.percentiles == volume.percentiles:
        return None
    return (
        f"it is normalised by {name_normalisation(volume.percentiles)}, the network "
        f"has learnt with {name_normalisation(model.percentiles)}, so it sees other "
        "grey values than it knows; set ingest.percentiles as it was there"
    )


def _of_volume(volume: IngestedVolume) -> Iterator[str]:
    yield from volume.warnings
    if volume.num_nan:
        yield (
            f"{count_noun(volume.num_nan, 'voxel')} were NaN or infinite and got the "
            "mean of their channel"
        )


def _of_result(result: Result) -> Iterator[str]:
    devices = result.prediction.devices
    if len(devices) > 1:
        yield (
            f"predicted on different kinds of device ({', '.join(devices)}), whose "
            "arithmetic differs in the last bits"
        )
    flips = result.plan.flip_fraction
    if flips > 0:
        yield (
            f"{result.plan.precision} flips {100 * flips:.3g} % of the labels against "
            "fp32"
        )
    yield from result.plan.warnings
    yield from result.segmentation.warnings
    if result.segmentation.num_objects == 0:
        yield "no object was found; look at the probabilities and the threshold"
    if result.metrics:
        yield from _of_scores(result.metrics)


def _of_scores(metrics: Metrics) -> Iterator[str]:
    yield from metrics.warnings
    if metrics.left_out:
        numbers = format_sections(metrics.left_out)
        yield (
            f"sections {numbers} hold voxels that nobody annotated: they count for "
            "the overlap of classes and for objects, not for scores over thresholds"
        )
    for row in metrics.seams.rows:
        if row.is_like_inside is False:
            yield (
                f"{row.face} faces along {row.axis} show: the probability jumps "
                f"{row.ratio:.3f} times as much across them as inside (interval "
                f"{format_range(row.interval)})"
            )
