"""Everything that a stage found odd, in a line each, with whom it concerns."""

from collections.abc import Iterable, Iterator, Mapping

from unetpipe.records.metrics import Metrics
from unetpipe.records.volume import IngestedVolume
from unetpipe.report.page.run import Network, Result, Run
from unetpipe.report.page.text import format_range, format_sections
from unetpipe.runtime.text import count
from unetpipe.tiling.scale import describe_scale


def collect_warnings(run: Run) -> list[str]:
    """Return what was odd of volumes, of the network, and of what it made."""
    found = [
        f"{name}: {text}"
        for name, volume in run.volumes.items()
        for text in _of_volume(volume)
    ]
    found += twins(run.volumes)
    network = run.network
    told = network.training.warnings if network.training else ()
    found += [f"{network.name}: {text}" for text in told]
    found += [
        f"{network.name}: {text}" for text in leaks(network, run.results, run.volumes)
    ]
    found += [
        f"{network.name} on {name}: {text}"
        for name in dict.fromkeys(result.volume for result in run.results)
        if (text := at_another_scale(network, run.volumes[name]))
    ]
    found += [
        f"{result.model} on {result.volume}: {text}"
        for result in run.results
        for text in _of_result(result)
    ]
    return found


def twins(volumes: Mapping[str, IngestedVolume]) -> list[str]:
    """Return which volumes hold the same voxels: one image under several names."""
    alike: dict[str, list[str]] = {}
    for name, volume in volumes.items():
        if volume.image.pixel_sha256:
            key = f"{volume.dtype}{volume.shape}{volume.image.pixel_sha256}"
            alike.setdefault(key, []).append(name)
    return [
        f"{' and '.join(names)} hold the same voxels: what is learnt from one is known "
        "of the other; keep one of them, or correct the sheet"
        for names in alike.values()
        if len(names) > 1
    ]


def leaks(
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


def _of_volume(volume: IngestedVolume) -> Iterator[str]:
    yield from volume.warnings
    if volume.num_nan:
        yield (
            f"{count(volume.num_nan, 'voxel')} were NaN or infinite and got the mean "
            "of their channel"
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
