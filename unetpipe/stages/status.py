"""Rule status: how far a run is that goes on in another shell or on other nodes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from unetpipe.report.run_state import (
    HEADER,
    outdated_state,
    run_states,
    show_state,
    warnings_of,
)
from unetpipe.runtime.text import format_table


def status(
    *,
    volumes: list[str],
    networks: list[dict[str, Any]],
    results: Path,
    logs: Path,
    outdated: Mapping[str, str] = MappingProxyType({}),
    lots: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Print how far each step is. Reads records, receipts and logs; changes nothing.

    Parameters
    ----------
    volumes : list of str
        Names of the volumes.
    networks : list of dict
        ``model``, ``steps`` and ``volumes`` of each network, and the ``rule`` that
        makes it.
    results, logs : Path
        Folders of the run.
    outdated : mapping
        Records that do not answer what is asked today: in words, why.
    lots : sequence of mapping
        Volumes that share jobs, as ``lot_states`` needs them. Their volumes have no
        lines of their own, but those that failed.
    """
    states = run_states(volumes, networks, lots, results=results, logs=logs)
    known = [outdated_state(state, results, outdated) for state in states]
    print(format_table(HEADER, [show_state(state) for state in known]))
    for told in warnings_of(results, volumes, networks):
        print(f"warning: {told}")
    for told in outdated.values():
        print(f"{told}: the next run makes it again")
