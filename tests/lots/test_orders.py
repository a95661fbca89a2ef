"""What a lot's job is told is what the jobs of its volumes would be given."""

import inspect
import pickle
from typing import Any

from unetpipe.lots.orders import Lazily, fill_params


def fill(pattern: str, wildcards: dict[str, str]) -> str:
    return pattern.format(**wildcards)


def arguments_of(function: Any) -> list[str]:
    return [*inspect.signature(function).parameters]


def test_parameters_are_filled_as_the_jobs_of_the_volumes_would_get_them() -> None:
    params: dict[str, Any] = {
        "steps": 4,
        "place": "volumes/{volume}",
        "name": lambda wildcards: wildcards["volume"],
        "about": lambda wildcards, input, output: (input.image, output.record),
    }
    files = {"input": {"image": "a.tif"}, "output": {"record": "a.json"}}
    assert fill_params(params, files, {"volume": "a"}, fill, arguments_of) == {
        "steps": 4,
        "place": "volumes/a",
        "name": "a",
        "about": ("a.tif", "a.json"),
    }


def make_orders() -> dict[str, Any]:
    asked.append("now")
    return {"a": 1}


asked: list[str] = []


def test_orders_are_worked_out_when_they_are_handed_over_and_no_sooner() -> None:
    lazy = Lazily(make_orders)
    assert asked == []
    assert pickle.loads(pickle.dumps(lazy)) == {"a": 1}
    assert asked == ["now"]
