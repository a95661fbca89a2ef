"""Configuration, sheet and source together: all that is wrong is told at once."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetpipe.config.fields import name_problem
from unetpipe.config.layout import TAKEN_IN_RUN, Layout
from unetpipe.config.loading import check_config, repeated_keys
from unetpipe.config.messages import list_problems
from unetpipe.config.missing_files import leave_out_missing
from unetpipe.config.networks import Joined, Network, list_ensembles, list_networks
from unetpipe.config.run import ONLY, Config
from unetpipe.config.sheet import Sheet, load_sheet
from unetpipe.config.trained_networks import (
    Adopted,
    check_network_apart,
    check_parent_networks,
    read_adopted,
    with_architecture,
)
from unetpipe.errors import ConfigError, DataError
from unetpipe.images.files import PHANTOM
from unetpipe.records.volume import Manifest
from unetpipe.runtime.problems import Problems

SUGGESTED = 3  # networks of an earlier run that a message names


@dataclass(frozen=True, slots=True)
class CheckedRun:
    """What a run is made of: its settings, its rows, its networks by name.

    ``left_out`` has a line, by name, on each optional volume that a local folder lacks;
    the sheet is without its rows, as if nobody had written them. Under an empty name it
    has one on originals that are gone, and not needed any more.
    """

    config: Config
    sheet: Sheet
    networks: dict[str, Network]
    ensembles: dict[str, Joined]
    left_out: dict[str, str]


def check_run(
    values: Mapping[str, Any],
    files: Sequence[str] = (),
    *,
    find: Callable[[str], Path] = Path,
    place: Callable[[str], str] = str,
) -> CheckedRun:
    """Return configuration, sheet and networks of a run.

    Parameters
    ----------
    values : mapping
        The configuration, as read from its files and the command line.
    files : sequence of str
        Those files, for messages, and to find what they give twice.
    find : callable
        Tells where the sheet is that the configuration names.
    place : callable
        Tells where a path of the results is; a module has a prefix of its own.

    Raises
    ------
    ConfigError
        Listing every problem of configuration and sheet: where, what, what would work.
    """
    files = [_as_typed(path) for path in files]
    source = " and ".join(files) or "the configuration"
    problems = Problems("")
    for path in files:
        with problems:
            _check_repeats(path)
    with problems:
        _check_source(values, files)
    config = sheet = None
    left_out: dict[str, str] = {}
    adopted: list[Adopted] = []
    with problems:
        trained = values.get("trained")
        by_name = {ONLY: trained} if isinstance(trained, str) else trained
        adopted = read_adopted(by_name)
        values = with_architecture(values, adopted)
    with problems:
        config = check_config(dict(values), source)
    with problems:
        sheet = load_sheet(find(_text(values, "volumes")))
        if values.get("trained") is not None:
            sheet = _without_training(sheet)
    if sheet is not None:
        with problems:
            stored = _stored(config, sheet, place)
            sheet, left_out = leave_out_missing(sheet, _text(values, "source"), stored)
    if config is not None and sheet is not None:
        with problems:
            check_network_apart(adopted, Path(place(f"results/{config.name}")))
            found = _networks(config, sheet, adopted)
            check_parent_networks(found[0], Path(place(f"results/{config.name}")))
            run = CheckedRun(config, sheet, *found, left_out)
            _check_together(run)
    if problems.texts:
        raise ConfigError("\n".join([*problems.texts, *left_out.values()]))
    return run


def _stored(
    config: Config | None, sheet: Sheet, place: Callable[[str], str]
) -> list[str]:
    """Return the volumes that a run has stored already, of the source of today."""
    if config is None:
        return []
    layout = Layout(config.name, place)
    with suppress(DataError):  # whoever needs a damaged manifest says so
        manifest = Manifest.read_if_there(Path(layout.manifest))
        if manifest and manifest.source != config.source:
            return []
    return stored_volumes(layout, sheet.volumes)


def stored_volumes(layout: Layout, volumes: Iterable[str]) -> list[str]:
    """Return those of some volumes that are stored, so that nobody reads originals."""
    return [v for v in volumes if Path(layout.ingest.format(volume=v)).exists()]


def _check_source(values: Mapping[str, Any], files: Sequence[str]) -> None:
    """Refuse files that are no whole configuration: the demo would run instead."""
    if files and values.get("source") is None:
        names = " ".join(files)
        raise ConfigError(
            f"{' and '.join(files)}: no source. A file of single settings goes behind "
            f"the configuration that it changes, after one --configfile: --configfile "
            f"config/NAME.yaml {names}; to draw the demo's phantom, add `source: "
            f"{PHANTOM}`"
        )


def _as_typed(path: str) -> str:
    """Return a path from here, if it lies below."""
    here = Path.cwd()
    below = Path(path).is_relative_to(here)
    return str(Path(path).relative_to(here)) if below else path


def _text(values: Mapping[str, Any], key: str) -> str:
    """Return a text of a configuration that may be wrong in any way."""
    value = values.get(key)
    return value if isinstance(value, str) else str(Config.model_fields[key].default)


def _check_repeats(path: str) -> None:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError):  # whoever reads the values says so
        return
    if found := repeated_keys(text):
        raise ConfigError(list_problems(path, found))


def _without_training(sheet: Sheet) -> Sheet:
    """Return a sheet without the volumes that only a training has a use for.

    Of other volumes all rows stay, so that they need not be stored anew.
    """
    used = {row.volume for row in sheet.rows if row.role != "train"}
    return Sheet(tuple(row for row in sheet.rows if row.volume in used))


def _networks(
    config: Config, sheet: Sheet, adopted: Sequence[Adopted]
) -> tuple[dict[str, Network], dict[str, Joined]]:
    architectures = {one.name: one.network for one in adopted}
    networks = list_networks(config, sheet.folds, architectures)
    return networks, list_ensembles(config, networks)


def _check_together(run: CheckedRun) -> None:
    """Refuse what configuration and sheet allow only apart."""
    config, sheet = run.config, run.sheet
    found = [
        f"compare: {folder} holds no train.json; " + _where_networks_are(folder)
        for folder in config.compare
        if not Path(folder, "train.json").exists()
    ]
    found += [
        f"{config.volumes}: no row has the role train"
        + (f" in fold {fold}" if fold else "")
        + "; give it annotated sections, or name a trained network with `trained`"
        for fold in sheet.folds
        if config.trained is None and not sheet.of_fold(fold, "train")
    ]
    if config.trained is not None and not sheet.rows:
        found.append(
            f"{config.volumes}: no row has the role predict, test or validate, so "
            "there is nothing to do for a network that is trained; add one"
        )
    if run.ensembles and not sheet.volumes_of("", "test", "predict"):
        found.append(
            f"ensemble: true, but {config.volumes} has no row without a fold in the "
            "role predict or test, so nothing is left for the ensemble; add one, or "
            "remove the key"
        )
    found += _name_problems([*run.networks, *run.ensembles])
    if config.prediction.precision == "int8":
        found += [
            f"prediction.precision is int8, and {network.folder} holds no "
            "calibration.json: int8 is calibrated on training rows; predict with int8 "
            "once where the network was trained, or use fp32 or bf16 here"
            for network in run.networks.values()
            if network.folder and not _has_calibration(network.folder)
        ]
    if found:
        raise ConfigError(list_problems("configuration and sheet together", found))


def _has_calibration(folder: str) -> bool:
    files = Path(Layout("").calibration).name, Path(Layout("").quantised).name
    return all(Path(folder).expanduser().joinpath(name).is_file() for name in files)


def _name_problems(networks: Sequence[str]) -> list[str]:
    """Return what is wrong with the names of networks, each a folder of the results."""
    found: list[str] = []
    same: dict[str, str] = {}
    for name in networks:
        if wrong := name_problem("the name of a network", name):
            found.append(f"{wrong} (it is made of variant, fold and seed)")
        if re.fullmatch(TAKEN_IN_RUN, name, re.IGNORECASE):
            found.append(
                f"a network is called {name}, as a file or folder of the results is; "
                "call it otherwise"
            )
        first = same.setdefault(name.casefold(), name)
        if first != name:
            found.append(f"networks {first} and {name} differ only in case; rename one")
    return found


def _where_networks_are(folder: str) -> str:
    """Return which folder of a trained network may be meant."""
    below = sorted(str(path.parent) for path in Path(folder).glob("*/train.json"))
    if below:
        return f"did you mean {' or '.join(below[:SUGGESTED])}?"
    return "name the folder of a trained network, like results/old/unet"
