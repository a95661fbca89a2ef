"""Who trains, who validates, who is tested on: a rule without chance."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unetpipe.survey.names import subject_of
from unetpipe.survey.pairs import list_briefly
from unetpipe.survey.volumes import Found

# Of five blocks in turn one validates and one is tested on, so that both lie all over.
CYCLE = ("train", "train", "validate", "train", "test")
# Sections that correlate by so much hardly differ: a gap of one is left between roles,
# where fewer than so many leave room for two gaps, for one, or for none.
ALIKE, FEWEST_WITH_TWO_GAPS, FEWEST_WITH_GAP = 0.9, 10, 6
CYCLES = 5  # as many as there may be: blocks of several sections in long stacks
FEW = {1: ("train",), 2: ("train", "validate"), 3: ("train", "validate", "test")}
FEW |= {4: ("train", "validate", "train", "test")}
FEWEST_SUBJECTS = 3  # of which one can train, one validate, one be tested on
MANY = 5  # annotated volumes, from which on whole volumes change roles


def split_roles_in_blocks(count: int, *, has_tests: bool = False) -> tuple[str, ...]:
    """Return roles of sections that are all alike: one block each, a section apart.

    Of few sections none is given away: what validates lies between what trains and
    what is tested on.

    Examples
    --------
    >>> split_roles_in_blocks(10)[4:]
    ('', 'validate', 'validate', '', 'test', 'test')
    >>> split_roles_in_blocks(6)[2:], split_roles_in_blocks(4)
    (('train', '', 'validate', 'test'), ('train', 'train', 'validate', 'test'))
    >>> split_roles_in_blocks(2)
    ('train', 'validate')
    """
    tests = 0 if has_tests or count < 3 else max(1, count // 5)
    validates = max(1, count // 5) if count > 1 else 0
    before = int(count >= FEWEST_WITH_GAP)
    between = int(tests > 0 and count >= FEWEST_WITH_TWO_GAPS)
    blocks = [
        ("train", count - tests - validates - before - between),
        *(("", before), ("validate", validates)),
        *(("", between), ("test", tests)),
    ]
    return tuple(role for role, length in blocks for _ in range(length))


def share_roles(
    count: int, *, in_blocks: bool, has_tests: bool = False
) -> tuple[str, ...]:
    """Return the role of each of some sections, or of some images.

    Parameters
    ----------
    count : int
        Of them.
    in_blocks : bool
        Neighbours are alike, as sections are: of many, blocks take turns.
    has_tests : bool
        Others are tested on, so none of these is.

    Examples
    --------
    >>> share_roles(5, in_blocks=True)
    ('train', 'train', 'validate', 'train', 'test')
    >>> share_roles(3, in_blocks=False, has_tests=True)
    ('train', 'validate', 'train')
    """
    if count in FEW:
        roles = FEW[count]
    else:
        length = max(1, count // (len(CYCLE) * CYCLES)) if in_blocks else 1
        roles = tuple(CYCLE[k // length % len(CYCLE)] for k in range(count))
    return tuple("train" if has_tests and r == "test" else r for r in roles)


def sheet_cell_of_sections(sections: Sequence[int], num_sections: int) -> str:
    """Return how the sheet names sections.

    Examples
    --------
    >>> sheet_cell_of_sections([0, 1, 2, 7], 9), sheet_cell_of_sections([0, 1], 2)
    ('0-2,7', 'all')
    """
    if len(sections) == num_sections:
        return "all"
    runs: list[list[int]] = []
    for section in sections:
        if runs and section == runs[-1][1] + 1:
            runs[-1][1] = section
        else:
            runs.append([section, section])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


@dataclass(frozen=True, slots=True)
class RoleRow:
    """Some sections of a volume in a role."""

    volume: Found
    sections: tuple[int, ...]
    role: str


def assign_roles(
    volumes: Sequence[Found],
    filled: Mapping[str, int],
    likeness: Mapping[str, float],
) -> tuple[list[RoleRow], list[str]]:
    """Return the rows of the sheet, and how roles were found.

    Parameters
    ----------
    volumes : sequence of Found
        In the order of the sheet.
    filled : mapping
        Volume -> voxels of objects, as far as it is known.
    likeness : mapping
        Volume -> correlation of neighbouring sections, as far as it is known.
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
        shared, note = _share_images(rest, has_tests=has_tests)
        role_of |= shared
        notes.append(note)
    else:
        for volume in rest:
            sections[volume.name], note = _share_sections(
                volume, likeness.get(volume.name), has_tests=has_tests
            )
            notes.append(note)
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


def _share_images(
    volumes: Sequence[Found], *, has_tests: bool
) -> tuple[dict[str, str], str]:
    """Return the role of each image, and how they were shared.

    Images of one patient, animal, well or the like resemble each other more than those
    of others that a network will meet, so they stay in one role.
    """
    origins = [v.well or subject_of(v.image) for v in volumes]
    subjects = list(dict.fromkeys(origins))
    about, few = f"{len(volumes)} annotated images", ""
    if all(origins) and FEWEST_SUBJECTS <= len(subjects) < len(volumes):
        about += (
            f" of {len(subjects)} groups ({list_briefly(subjects)}) keep together and"
        )
    else:
        if all(origins) and 1 < len(subjects) < min(FEWEST_SUBJECTS, len(volumes)):
            few = (
                f"; they are of {list_briefly(subjects)} alone, too few to keep apart, "
                "so scores tell little of others"
            )
        subjects = origins = [v.name for v in volumes]
    shared = share_roles(len(subjects), in_blocks=False, has_tests=has_tests)
    role_of = dict(zip(subjects, shared, strict=True))
    roles = {v.name: role_of[o] for v, o in zip(volumes, origins, strict=True)}
    return roles, f"{about} share the roles: {_count([*roles.values()])}{few}"


def _share_sections(
    volume: Found, likeness: float | None, *, has_tests: bool
) -> tuple[tuple[str, ...], str]:
    """Return the roles of one volume's annotated sections, and how they were shared."""
    count = len(volume.annotated)
    about = f"{volume.name}: its {count} annotated section{'s' * (count > 1)} share the"
    alike = "" if likeness is None else f" (neighbours correlate by {likeness:.2f})"
    if count > 1 and likeness is not None and likeness >= ALIKE:
        roles = split_roles_in_blocks(count, has_tests=has_tests)
        apart = ", a section apart" if "" in roles else ""
        note = (
            f"{about} roles in blocks{apart}: {_count(roles)}; neighbours are too much "
            f"alike{alike} to train on one and to test on the next"
        )
        if count < FEWEST_WITH_GAP:
            note += (
                "; there are too few to leave a gap between what trains and what "
                "validates: thresholds and checkpoint are chosen too kindly"
            )
        return roles, note
    roles = share_roles(count, in_blocks=True, has_tests=has_tests)
    note = f"{about} roles, in turns: {_count(roles)}"
    if len(set(roles)) > 1:
        note += (
            f"; they are scored beside those that train{alike}: another volume would "
            "tell more of others"
        )
    return roles, note


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
            "sections, and save them with the image's name in a folder labels (or mend "
            "those that are left out above, if there are any); or use a network that "
            "is trained already, by the key trained"
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
