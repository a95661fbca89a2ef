"""Time things in turn, so that what the machine does meanwhile hits all of them."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

Action = Callable[[], object]


def interleave(actions: Mapping[str, Action], rounds: int) -> dict[str, list[float]]:
    """Return seconds of each action in each round, every other round backwards."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(rounds):
        names = list(actions)
        for name in names if number % 2 == 0 else reversed(names):
            seconds[name].append(time_once(actions[name]))
    return seconds


def time_once(action: Action) -> float:
    """Return the seconds that an action takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median, over rounds, of two measurements of the same round."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))
