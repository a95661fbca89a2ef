"""The rows of the sheet: volumes, and sections of volumes, in their roles."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unetpipe.survey.candidates import list_briefly
from unetpipe.survey.roles import share_roles
from unetpipe.survey.volumes import Found

MANY = 5  # annotated volumes, from which on whole volumes change roles


@dataclass(frozen=True, slots=True)
class RoleRow:
    """Some sections of a volume in a role."""

    volume: Found
    sections: tuple[int, ...]
    role: str


def assign_roles(
    volumes: Sequence[Found], filled: Mapping[str, int]
) -> tuple[list[RoleRow], list[str]]:
    """Return the rows of the sheet, and how roles were found.

    Parameters
    ----------
    volumes : sequence of Found
        In the order of the sheet.
    filled : mapping
        Volume -> voxels of objects, as far as it is known.
    """
    notes = []
    empty = [v.name for v in volumes if v.annotated and filled.get(v.name) == 0]
    annotated = [v for v in volumes if v.annotated and v.name not in empty]
    if empty:
        notes.append(
            f"the labels of {list_briefly(empty)} hold nothing but 0, so nothing can "
            "be learned from them: predict"
        )
    role_of, said = _by_split(annotated)
    notes += said
    rest = [v for v in annotated if v.name not in role_of]
    has_tests = "test" in role_of.values()
    if "validate" in role_of.values():
        role_of |= {v.name: "train" for v in rest}
        rest = []
    sections: dict[str, tuple[str, ...]] = {}
    if len(rest) >= MANY or (
        len(rest) > 1 and all(len(v.annotated) == 1 for v in rest)
    ):
        shared = share_roles(len(rest), in_blocks=False, has_tests=has_tests)
        role_of |= {v.name: role for v, role in zip(rest, shared, strict=True)}
        notes.append(f"{len(rest)} annotated images share the roles: {_count(shared)}")
    else:
        for volume in rest:
            count = len(volume.annotated)
            sections[volume.name] = share_roles(
                count, in_blocks=True, has_tests=has_tests
            )
            notes.append(
                f"{volume.name}: its {count} annotated section{'s' * (count > 1)} "
                f"share the roles, in turns: {_count(sections[volume.name])}"
            )
    rows = []
    for volume in volumes:
        if volume.name in sections:
            rows += _in_turns(volume, sections[volume.name])
        elif volume.name in role_of:
            role = role_of[volume.name]
            # Of a sequence that is tested on the markers of all frames count.
            is_whole = volume.is_held and role == "test"
            sections_of = range(volume.num_sections) if is_whole else volume.annotated
            rows.append(RoleRow(volume, tuple(sections_of), role))
        else:
            everything = tuple(range(volume.num_sections))
            rows.append(RoleRow(volume, everything, "predict"))
    return rows, notes + _warn(rows)


def _by_split(annotated: Sequence[Found]) -> tuple[dict[str, str], list[str]]:
    """Return the roles that folders give; of training only where others validate."""
    splits = {v.split for v in annotated}
    held_out = splits & {"validate", "test"}
    if not held_out or not splits & {"train", ""}:
        return {}, []
    roles = {v.name: v.split for v in annotated if v.split in held_out}
    what = "sequences" if any(v.is_held for v in annotated) else "names"
    count = _count([v.split or "train" for v in annotated])
    return roles, [f"roles by {what}: {count}"]


def _in_turns(volume: Found, roles: Sequence[str]) -> list[RoleRow]:
    return [
        RoleRow(
            volume,
            tuple(z for z, r in zip(volume.annotated, roles, strict=True) if r == role),
            role,
        )
        for role in ("train", "validate", "test")
        if role in roles
    ]


def _warn(rows: Sequence[RoleRow]) -> list[str]:
    there = {row.role for row in rows}
    if "train" not in there:
        return [
            "nothing is annotated, so nothing can be trained: draw labels for some "
            "sections, and save them with the image's name in a folder labels; or "
            "use a network that is trained already, by the key trained"
        ]
    return [
        f"nothing has the role {role}: {loss}; annotate more"
        for role, loss in (
            ("validate", "thresholds and checkpoint are not chosen"),
            ("test", "there will be no honest score"),
        )
        if role not in there
    ]


def _count(roles: Sequence[str]) -> str:
    counts = Counter(roles)
    return ", ".join(
        f"{counts[role]} {role}"
        for role in ("train", "validate", "test")
        if counts[role]
    )
