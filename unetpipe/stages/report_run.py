"""Rule report_run: the page to read first; several networks side by side."""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unetpipe.report.page.compared_networks import (
    show_networks,
    show_pair,
    show_pooled,
    show_shared,
)
from unetpipe.report.page.comparison import changed_settings, shared_volumes
from unetpipe.report.page.figures import LEGEND
from unetpipe.report.page.summary import leaks
from unetpipe.report.page.templates import render
from unetpipe.report.page.text import count
from unetpipe.runtime.files import read_record, write_bytes_atomic

log = logging.getLogger(__name__)

Record = dict[str, Any]

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
    networks = [_read_network(model, output.parent) for model in models]
    volumes = {r["volume"]: r for r in map(read_record, ingests)}
    reference, *others = networks
    trained = [network for network in networks if not network["is_joined"]]
    page_of = {
        "name": name,
        **show_networks(networks),
        "summary": _summarise(networks),
        "warnings": [*_warnings(networks), *_leaks(networks, volumes)],
        "trained": [network["name"] for network in trained],
        "settings": changed_settings(trained),
        "pooled": [
            line for path in compared for line in show_pooled(read_record(path))
        ],
        "shared": next((show_shared(read_record(path)) for path in compared), None),
        "pairs": [
            show_pair(
                reference, other, volumes, with_pictures=number < MOST_PICTURED_PAIRS
            )
            for number, other in enumerate(others)
        ],
        "colours": LEGEND,
        "finished": max(map(_finished, networks)),
    }
    content = render("compare.html", page_of)
    write_bytes_atomic(output, content)
    log.info("%s holds %.1f MB", output, len(content) / 1e6)


def _read_network(model: dict[str, Any], beside: Path) -> Record:
    folder = Path(model["folder"])
    page = folder / "report.html"
    description = read_record(folder / "model.json")
    # An ensemble was not trained: when it was joined is all that there is to tell. One
    # that was taken over is a network like others.
    told = folder / "train.json"
    is_joined = "members" in description and not told.exists()
    return {
        "name": model["name"],
        "record": description if is_joined else read_record(told),
        "description": description,
        "is_joined": is_joined,
        "page": os.path.relpath(page, beside) if page.exists() else "",
        "predicted": {
            volume: _read_prediction(folder / volume) for volume in model["volumes"]
        },
    }


def _read_prediction(folder: Path) -> Record:
    names = ("plan", "prediction", "segmentation")
    metrics = folder / "metrics.json"
    return {name: read_record(folder / f"{name}.json") for name in names} | {
        "metrics": read_record(metrics) if metrics.exists() else None
    }


def _summarise(networks: Sequence[Record]) -> str:
    volumes = {volume for network in networks for volume in network["predicted"]}
    joined = sum(network["is_joined"] for network in networks)
    told = count(len(networks) - joined, "network")
    told += f" and {count(joined, 'ensemble')} of them" if joined else ""
    return (
        f"{told} over {count(len(volumes), 'volume')}. "
        f"{networks[0]['name']} is the reference: the others are compared with it, "
        "section by section, where both were scored."
    )


def _finished(network: Record) -> str:
    """Return when a network was trained, or taken over."""
    made, *_ = network["record"].get("adopted", [network["record"]])
    return str(made["circumstances"]["finished"])


def _leaks(networks: Sequence[Record], volumes: Record) -> Iterator[str]:
    """Yield which networks have learnt from what they are tested on."""
    for network in networks:
        predicted = [
            {"model": network["name"], "volume": volume, "metrics": records["metrics"]}
            for volume, records in network["predicted"].items()
        ]
        run = {"volumes": volumes, "predicted": predicted}
        for text in leaks(run, network | {"model": network["name"]}):
            yield f"{network['name']}: {text}"


def _warnings(networks: Sequence[Record]) -> list[str]:
    reference, *others = networks
    return [
        f"{volume}: {other['name']} saw other voxels than {reference['name']} under "
        "this name, so they are not compared"
        for other in others
        for volume in shared_volumes(reference, other)[1]
    ]
