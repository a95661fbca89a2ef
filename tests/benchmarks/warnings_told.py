"""How often warnings about input are right, on real stacks: both rates.

Of each run of twenty sections of the published stacks, how many that nobody touched are
called odd, and how many are named when one section is blanked, copied, blurred, and so
on; and whether volumes are called unlike what was learnt when they come from the same
stack, or from another. No network is trained: what one has learnt from is told by its
sections. ``UNETPIPE_DATA`` names the folder of the sets (else ``shared/data`` beside
the repository).
"""

from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tests.benchmarks.figures import CannotRun, Figure
from tests.benchmarks.first_hour import data_folder
from tests.benchmarks.settings import Settings
from tests.ingestion.test_odd_sections import alike, odd
from tests.targets.test_likeness import volume, weights
from unetpipe import open_image
from unetpipe.targets.likeness import describe_learnt, unlike_learnt

STACKS = {
    "isbi2012-em/train/image": "ISBI 2012, training stack",
    "isbi2012-em/test/image": "ISBI 2012, test stack",
    "drosophila-vnc-sstem/stack1/raw": "nerve cord",
    "fib25-medulla/training_sample2/grayscale_maps": "FIB-25",
    "ctc-dic-c2dh-hela/01": "DIC-HeLa, sequence 01",
    "ctc-dic-c2dh-hela/02": "DIC-HeLa, sequence 02",
}
NUM = 20  # sections of a run
PLACES = (1, 10, 18)  # of which one is damaged

Section = NDArray[np.float64]
Stack = NDArray[np.uint8]


def _noisier(s: Section, before: Section) -> Section:
    return s + np.random.default_rng(1).normal(0, s.std(), s.shape)


DAMAGES: dict[str, Callable[[Section, Section], Section]] = {
    "blank": lambda s, before: np.full_like(s, s.mean()),
    "duplicated": lambda s, before: before,
    "saturated": lambda s, before: np.where(s > s.mean() + 0.25 * s.std(), 255.0, s),
    "darker": lambda s, before: s - 1.5 * s.std(),
    "brighter": lambda s, before: s + 1.5 * s.std(),
    "of other contrast": lambda s, before: (s - s.mean()) / 3 + s.mean(),
    "blurred": lambda s, before: ndimage.gaussian_filter(s, 3),
    "noisier": _noisier,
    "displaced": lambda s, before: np.roll(s, (25, -20), (0, 1)),
}


def measure(settings: Settings) -> list[Figure]:
    """Count what is named, on stacks as they are and with one section damaged."""
    if settings.is_quick:
        stacks = {f"drawn {seed}": alike(seed=seed) for seed in range(2)}
    else:
        data = data_folder()
        if not (there := [path for path in STACKS if (data / path).is_dir()]):
            raise CannotRun(f"none of the sets is in {data}")
        stacks = {STACKS[path]: _read(data / path) for path in there}
    return [*_odd_sections(stacks), *_unlike_volumes(stacks)]


def _read(folder: Path) -> Stack:
    (ending,) = {path.suffix for path in folder.iterdir()}
    with open_image(f"{folder}/*{ending}") as image:
        stack: Stack = np.asarray(image.dask[0])
    return stack


def _runs(stack: Stack) -> Iterator[Stack]:
    for start in range(0, len(stack) - NUM + 1, NUM):
        yield stack[start : start + NUM]


def _odd_sections(stacks: dict[str, Stack]) -> Iterator[Figure]:
    """Yield the share of sections named, where none is damaged, and where one is."""
    told: list[str] = []
    num_false = num_all = 0
    hits: dict[str, list[bool]] = {what: [] for what in DAMAGES}
    exact: dict[str, list[bool]] = {what: [] for what in DAMAGES}
    for name, stack in stacks.items():
        false = 0
        for run in _runs(stack):
            plain = {(what, z) for what, zs in odd(run).items() for z in zs}
            false += len(plain)
            num_all += NUM
            for what, damage in DAMAGES.items():
                for z in PLACES:
                    found = odd(_damaged(run, z, damage))
                    hits[what].append(any(z in zs for zs in found.values()))
                    exact[what].append(z in found.get(what, ()))
        told.append(f"{name} {false} of {len(list(_runs(stack))) * NUM}")
        num_false += false
    yield Figure(
        "sections that nobody touched, called odd",
        num_false / num_all,
        basis=f"{num_false} of {num_all}: {', '.join(told)}",
        at_most=0.02,
    )
    for what, named in hits.items():
        yield Figure(
            f"damaged sections that are named: {what}",
            sum(named) / len(named),
            basis=f"{sum(named)} of {len(named)}, {sum(exact[what])} as {what}",
            at_least=1.0 if what == "blank" else None,
        )


def _damaged(run: Stack, z: int, damage: Callable[..., Section]) -> Stack:
    changed = run.copy()
    section = damage(run[z].astype(np.float64), run[z - 1].astype(np.float64))
    changed[z] = np.clip(np.rint(section), 0, 255)
    return changed


def _unlike_volumes(stacks: dict[str, Stack]) -> Iterator[Figure]:
    """Yield how often another volume is called unlike what was learnt."""
    halves = {
        (name, half): volume(part)
        for name, stack in stacks.items()
        for half, part in enumerate(np.array_split(stack, 2))
    }
    learnt = {}
    for key, part in halves.items():
        num = part.shape[0]
        learnt[key] = describe_learnt([(part, weights(num), range(num))])
    counts: dict[bool, list[tuple[bool, str]]] = {True: [], False: []}
    for one, other in permutations(halves, 2):
        is_told = bool(unlike_learnt(learnt[one], halves[other]))
        names = one[0], other[0]
        is_same = len({name.partition(",")[0] for name in names}) == 1
        counts[is_same].append((is_told, " to ".join(names)))
    for is_same, where in ((True, "the same set"), (False, "another set")):
        found = counts[is_same]
        num = sum(is_told for is_told, _ in found)
        odd_ones = sorted({pair for is_told, pair in found if is_told == is_same})
        what = "flagged" if is_same else "not flagged"
        said = f"; {what}: {', '.join(odd_ones)}" if odd_ones else ""
        yield Figure(
            f"halves of {where}, called unlike what was learnt",
            num / len(found),
            basis=f"{num} of {len(found)}{said}",
        )
