"""The sheet and the configuration as texts, with the reasons as comments."""

from collections.abc import Sequence
from textwrap import wrap
from typing import Any

import yaml

from unetpipe.survey.label_kinds import Kind
from unetpipe.survey.roles import write_sections
from unetpipe.survey.rows import RoleRow
from unetpipe.survey.settings import Setting

WIDTH = 88
COLUMNS = ("volume", "image", "labels", "sections", "role")
NEEDED = ("axes", "time", "label_kind")  # only where a row says something


def write_sheet(rows: Sequence[RoleRow], label_kind: str, notes: Sequence[str]) -> str:
    """Return the sheet; ``axes`` and ``time`` only where they are needed.

    Parameters
    ----------
    rows : sequence of RoleRow
        At least one.
    label_kind : str
        Of all labels; empty where there are none.
    notes : sequence of str
        For the comments above.
    """
    lines = [_as_cells(row, label_kind) for row in rows]
    kept = [*COLUMNS, *(c for c in NEEDED if any(cells[c] for cells in lines))]
    if any(row.volume.header.voxel_size_nm is None for row in rows):
        kept.append("voxel_size_nm")  # for the user to fill
    return "\n".join(
        [
            *_comment("Made by scripts/make_sheet.py. Columns: config/README.md."),
            *(line for note in notes for line in _comment(note)),
            "\t".join(kept),
            *("\t".join(cells[column] for column in kept) for cells in lines),
            "",
        ]
    )


def write_configuration(
    name: str,
    source: str,
    sheet: str,
    kind: Kind,
    settings: Sequence[Setting],
    notes: Sequence[str],
) -> str:
    """Return the configuration, a reason above each setting.

    Parameters
    ----------
    name, source, sheet : str
        Of the run, the folder of the originals, and the sheet.
    kind : Kind
        Of the labels.
    settings : sequence of Setting
        What differs from the defaults.
    notes : sequence of str
        For the comments at the head.
    """
    lines = _comment("Made by scripts/make_sheet.py. Every key: config/README.md.")
    lines += [line for note in notes for line in _comment(note)]
    lines += [
        write_pair("name", name),
        write_pair("source", source),
        write_pair("volumes", sheet),
    ]
    if not kind.label_kind:
        lines.append("# trained: results/old/unet    # a network to use as it is")
    if kind.palette:
        lines += ["", *_comment(f"Labels: {kind.why}.")]
        lines += _comment(
            "The class of each value: give values that mean the same one class, null "
            "to what nobody annotated, and set network.num_classes to their number."
        )
        lines += ["labels:", "  palette:"]
        lines += [f'    "{key}": {number}' for key, number in kind.palette.items()]
    if kind.num_classes > 2:
        why = "as many as there are in the labels"
        settings = [Setting("network.num_classes", kind.num_classes, why), *settings]
    sections: dict[str, list[Setting]] = {}
    for setting in settings:
        sections.setdefault(setting.key.partition(".")[0], []).append(setting)
    for section, members in sections.items():
        lines += ["", f"{section}:"]
        before = ""
        for setting in members:
            if setting.why != before:
                lines += [f"  {line}" for line in _comment(setting.why)]
            before = setting.why
            lines.append(
                f"  {write_pair(setting.key.partition('.')[2], setting.value)}"
            )
    return "\n".join([*lines, ""])


def _as_cells(row: RoleRow, label_kind: str) -> dict[str, str]:
    volume = row.volume
    is_read = bool(volume.labels and row.role != "predict")
    return {
        "volume": volume.name,
        "image": volume.image,
        "labels": volume.labels if is_read else "",
        "sections": write_sections(row.sections, volume.num_sections),
        "role": row.role,
        "axes": volume.header.axes,
        "voxel_size_nm": "",
        "time": "" if volume.time is None else str(volume.time),
        "label_kind": (volume.kind or label_kind) if is_read else "",
    }


def write_pair(key: str, value: Any) -> str:
    """Return ``key: value`` as it stands in a YAML file."""
    text = yaml.safe_dump(
        value, default_flow_style=True, allow_unicode=True, width=10**6
    )
    return f"{key}: {text.strip().removesuffix('...').strip()}"


def _comment(text: str) -> list[str]:
    """Return lines of comment; what would end a line is shown as an escape."""
    plain = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return wrap(
        plain,
        WIDTH,
        initial_indent="# ",
        subsequent_indent="#   ",
        break_long_words=False,
        break_on_hyphens=False,
    )
