"""What was understood, written: sheet and configuration, and a table to print."""

from collections.abc import Sequence
from textwrap import wrap
from typing import Any

import yaml

from unetpipe.runtime.text import format_table
from unetpipe.survey.headers import Header
from unetpipe.survey.label_kinds import Kind
from unetpipe.survey.roles import RoleRow, sheet_cell_of_sections
from unetpipe.survey.settings import Setting
from unetpipe.survey.volumes import Found

WIDTH = 88
COLUMNS = ("volume", "image", "labels", "sections", "role")
NEEDED = (
    "axes",
    "time",
    "label_kind",
    "unlabelled",
    "field_of_view",
    "well",
    "field",
)  # only where a row says something
MOST_LINES = 12  # beyond, volumes that are alike share a line
HEADER = (
    *("volume", "files", "axes", "shape (c,z,y,x)", "dtype", "voxel size (nm)"),
    *("labels", "role"),
)


def write_sheet(rows: Sequence[RoleRow], kind: Kind, notes: Sequence[str]) -> str:
    """Return the sheet; ``axes`` and ``time`` only where they are needed.

    Parameters
    ----------
    rows : sequence of RoleRow
        At least one.
    kind : Kind
        Of all labels.
    notes : sequence of str
        For the comments above.
    """
    lines = [_as_cells(row, kind) for row in rows]
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
    if kind.class_names:
        lines += ["", *_comment(f"Labels: {kind.why}."), "labels:"]
        lines += [f"  {write_pair('class_names', list(kind.class_names))}"]
    if kind.threshold is not None:
        lines += ["", *_comment(f"Labels: {kind.why}.")]
        lines += ["labels:", f"  threshold: {kind.threshold}"]
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


def _as_cells(row: RoleRow, kind: Kind) -> dict[str, str]:
    volume = row.volume
    is_read = bool(volume.labels and row.role != "predict")
    return {
        "volume": volume.name,
        "image": volume.image,
        "labels": volume.labels if is_read else "",
        "sections": sheet_cell_of_sections(row.sections, volume.num_sections),
        "role": row.role,
        "axes": volume.header.axes,
        "voxel_size_nm": "",
        "time": "" if volume.time is None else str(volume.time),
        "label_kind": (volume.kind or kind.label_kind) if is_read else "",
        "field_of_view": volume.view if is_read else "",
        "well": volume.well,
        "field": volume.field,
        "unlabelled": (
            str(kind.unlabelled) if is_read and kind.unlabelled is not None else ""
        ),
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


def describe_volumes(rows: Sequence[RoleRow], label_kind: str) -> str:
    """Return a table, a line a volume, or a line for all that are alike."""
    roles: dict[str, list[RoleRow]] = {}
    for row in rows:
        roles.setdefault(row.volume.name, []).append(row)
    lines = [_line(own[0].volume, own, label_kind) for own in roles.values()]
    if len(lines) > MOST_LINES:
        lines = _merge(lines)
    return format_table(HEADER, lines)


def _line(volume: Found, rows: Sequence[RoleRow], label_kind: str) -> tuple[str, ...]:
    header = volume.header
    if len(rows) > 1 or len(rows[0].sections) < volume.num_sections:
        role = ", ".join(f"{len(row.sections)} {row.role}" for row in rows)
    else:
        role = rows[0].role
    is_read = volume.labels and rows[0].role != "predict"
    return (
        volume.name,
        str(volume.num_files),
        header.letters,
        ",".join(map(str, header.shape)),
        header.dtype,
        _describe_size(header),
        (volume.kind or label_kind) if is_read else "none",
        role,
    )


def _describe_size(header: Header) -> str:
    """Return the size of a voxel; frames of a time series are no length apart."""
    if header.voxel_size_nm is None:
        return "unknown: 1,1,1"
    z, y, x = (f"{length:g}" for length in header.voxel_size_nm)
    return f"{'frames' if header.are_times else z},{y},{x} (file)"


def _merge(lines: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return one line for all that differ in name, files and shape alone."""
    alike: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for line in lines:
        alike.setdefault((line[2], *line[4:]), []).append(line)
    merged = []
    for group in alike.values():
        first, last = group[0], group[-1]
        shapes = list(dict.fromkeys(line[3] for line in group))
        more = f" and {len(shapes) - 1} more" if len(shapes) > 1 else ""
        name = first[0]
        if len(group) > 1:
            name = f"{first[0]} ... {last[0]} ({len(group)})"
        files = str(sum(int(line[1]) for line in group))
        merged.append((name, files, first[2], f"{shapes[0]}{more}", *first[4:]))
    return merged
