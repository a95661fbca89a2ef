"""Who trains, who validates, who is tested on: a rule without chance."""

from collections.abc import Sequence

# Of five blocks in turn one validates and one is tested on, so that both lie all over.
CYCLE = ("train", "train", "validate", "train", "test")
CYCLES = 5  # as many as there may be: blocks of several sections in long stacks
FEW = {1: ("train",), 2: ("train", "validate"), 3: ("train", "validate", "test")}
FEW |= {4: ("train", "validate", "train", "test")}


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


def write_sections(sections: Sequence[int], num_sections: int) -> str:
    """Return how the sheet names sections.

    Examples
    --------
    >>> write_sections([0, 1, 2, 7], 9), write_sections([0, 1], 2)
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
