"""What was understood of a folder, as a table for the terminal."""

from collections.abc import Sequence

from unetpipe.runtime.text import format_table
from unetpipe.survey.rows import RoleRow
from unetpipe.survey.volumes import Found

MOST_LINES = 12  # beyond, volumes that are alike share a line
HEADER = (
    *("volume", "files", "axes", "shape (c,z,y,x)", "dtype", "voxel size (nm)"),
    *("labels", "role"),
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
    size, header = volume.header.voxel_size_nm, volume.header
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
        f"{','.join(f'{s:g}' for s in size)} (file)" if size else "unknown: 1,1,1",
        (volume.kind or label_kind) if is_read else "none",
        role,
    )


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
