"""Rule report_run: the page to read first; several networks side by side."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unetpipe.records.comparison import Comparison
from unetpipe.records.volume import IngestedVolume
from unetpipe.report.page.differences import Compared, changed_settings, shared_volumes
from unetpipe.report.page.network_pairs import (
    show_networks,
    show_pair,
    show_pooled,
    show_shared,
)
from unetpipe.report.page.painting import LEGEND
from unetpipe.report.page.run import read_reported_network, read_result_of
from unetpipe.report.page.templates import render
from unetpipe.report.page.warnings import warn_of_leaks
from unetpipe.runtime.files import write_bytes_atomic

log = logging.getLogger(__name__)

MOST_PICTURED_PAIRS = 12  # so that the page of many networks stays small


def report_run(
    *,
    name: str,
    models: list[dict[str, Any]],
    ingests: list[Path],
    compared: list[Path],
    output: Path,
) -> None:
    """Write the run's first page: of one network its own report, else a comparison.

    The first network is the reference; each other one is compared with it on the
    sections that both scored, of volumes with the same voxels.

    Parameters
    ----------
    name : str
        Of the run.
    models : list of dict
        ``{"name", "folder", "volumes"}``: a network, the folder of its records, and
        the volumes that it predicted.
    ingests : list of Path
        ``ingest.json`` of the run's volumes.
    compared : list of Path
        ``comparison.json`` of variants, folds and seeds, or none.
    output : Path
        The page; written whole or not at all.

    Raises
    ------
    DataError
        If a record or a store is missing; the message names it.
    """
    if len(models) == 1:
        page = Path(models[0]["folder"]) / "report.html"
        write_bytes_atomic(output, page.read_bytes())
        log.info("one network: %s is its report", output)
        return
    networks = [_read(model, output.parent) for model in models]
    volumes = {v.volume: v for v in map(IngestedVolume.read, ingests)}
    comparisons = [Comparison.read(path) for path in compared]
    reference, *others = networks
    trained = [one for one in networks if not one.network.is_joined]
    page_of = {
        "name": name,
        **show_networks(networks),
        "reference": reference.name,
        "num_volumes": len({volume for one in networks for volume in one.results}),
        "warnings": [*_unlike(networks), *_leaks(networks, volumes)],
        "trained": [one.name for one in trained],
        "settings": changed_settings(trained),
        "pooled": [line for record in comparisons for line in show_pooled(record)],
        "left_out": [told for record in comparisons for told in record.left_out],
        "shared": next(map(show_shared, comparisons), None),
        "pairs": [
            show_pair(
                reference, other, volumes, with_pictures=number < MOST_PICTURED_PAIRS
            )
            for number, other in enumerate(others)
        ],
        "colours": LEGEND,
        "finished": max(one.network.finished for one in networks),
    }
    content = render("compare.html", page_of)
    write_bytes_atomic(output, content)
    log.info("%s holds %.1f MB", output, len(content) / 1e6)


def _read(model: dict[str, Any], beside: Path) -> Compared:
    folder = Path(model["folder"])
    return Compared(
        read_reported_network(model["name"], folder, beside),
        {
            volume: read_result_of(model["name"], volume, folder / volume)
            for volume in model["volumes"]
        },
    )


def _leaks(
    networks: Sequence[Compared], volumes: dict[str, IngestedVolume]
) -> Iterator[str]:
    """Yield which networks have learnt from what they are tested on."""
    for one in networks:
        for text in warn_of_leaks(one.network, one.results.values(), volumes):
            yield f"{one.name}: {text}"


def _unlike(networks: Sequence[Compared]) -> Iterator[str]:
    """Yield which volumes of one name hold different voxels."""
    reference, *others = networks
    for other in others:
        for volume in shared_volumes(reference, other)[1]:
            yield (
                f"{volume}: {other.name} saw other voxels than {reference.name} under "
                "this name, so they are not compared"
            )
