"""Habits of the house: short functions, few arguments, records that are types."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "unetpipe"
MODULES = sorted(PACKAGE.rglob("*.py"))
ROOMS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
MOST_LINES = 60
MOST_ARGUMENTS = 8
# What reads or writes JSON outside `records/` and `runtime/`, and why it is no record.
NO_RECORDS = {
    "images/hdf5.py": "tags in files of other programs",
    "storage/documents.py": "what stores say, in the words of Zarr and NGFF",
    "segmentation/block_files.py": "the index inside a scratch file",
    "images/tensor_source.py": "metadata of other programs' stores",
    "report/page/views.py": "values to be shown as YAML",
    "survey/contents.py": "metadata of other programs' stores",
    "storage/precomputed.py": "metadata of other programs' stores",
}
# Tests of what several modules do together; all others are named by their module.
TOPICS = {
    "config": {"shipped_sheets", "upgrade"},
    "images": {"foreign", "hostile", "oddities", "tiff_sets"},
    "metrics": {"accumulation", "golden", "sections", "speed"},
    "network": {"exact_tiling"},
    "records": {"records", "version_0_1"},
    "stages": {
        *("boxes", "pages_in_browser", "prediction", "pyramids", "report_ensemble"),
        *(
            "report_size",
            "scale",
            "segmentation",
            "skipping",
            "training_team",
            "affinities",
            "volumetric",
        ),
    },
    "survey": {"layouts"},
    "training": {"averaging_weights", "memory"},
}
RAW = {"read_record", "write_record"}
DUMPS = {"to_json", "model_dump"}


parse = cache(ast.parse)


def parsed(path: Path) -> ast.Module:
    return parse(path.read_text())


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def lines_of_code(function: ast.FunctionDef, source: list[str]) -> int:
    """Count lines from ``def`` on, without docstrings, comments and empty lines."""
    told: set[int] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            told |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    last = function.end_lineno or function.lineno
    return sum(
        bool(text := source[number - 1].strip()) and not text.startswith("#")
        for number in range(function.lineno, last + 1)
        if number not in told
    )


def num_arguments(function: ast.FunctionDef) -> int:
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return sum(argument.arg not in ("self", "cls") for argument in named)


def is_public(function: ast.FunctionDef) -> bool:
    return not function.name.startswith("_") or function.name == "__init__"


def too_long(path: Path) -> list[str]:
    source = path.read_text().splitlines()
    return [
        f"{path.name}: {function.name} has {count} lines"
        for function in functions(parsed(path))
        if (count := lines_of_code(function, source)) > MOST_LINES
    ]


def too_many_arguments(path: Path) -> list[str]:
    return [
        f"{path.name}: {function.name} takes {count} arguments"
        for function in functions(parsed(path))
        if is_public(function) and (count := num_arguments(function)) > MOST_ARGUMENTS
    ]


def raw_records(path: Path) -> list[str]:
    """Return where a module handles records as plain dictionaries.

    What ``Record.read`` returns has no items, and mypy refuses to subscript it. What is
    left are files read or written past the types, and dumps of records that somebody
    subscripts.
    """
    found = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call) and called(node) in RAW:
            found.append(f"line {node.lineno}: {called(node)}")
        if isinstance(node, ast.Name) and node.id in RAW:
            found.append(f"line {node.lineno}: {node.id}")
        if (
            isinstance(node, ast.Call)
            and called(node) in ("load", "loads")
            and isinstance(node.func, ast.Attribute)
            and ast.unparse(node.func.value) == "json"
        ):
            found.append(f"line {node.lineno}: json.{called(node)}")
        if (
            isinstance(node, ast.Subscript)
            and isinstance(node.value, ast.Call)
            and called(node.value) in DUMPS
        ):
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return sorted(set(found))


def compiled(path: Path) -> dict[str, ast.FunctionDef]:
    """Return the functions of a module that numba compiles."""
    return {
        function.name: function
        for function in functions(parsed(path))
        if any("numba." in ast.unparse(how) for how in function.decorator_list)
    }


def foreign_loops(path: Path) -> list[str]:
    """Return which compiled functions call those of other modules."""
    known = {
        alias.asname or alias.name
        for node in parsed(path).body
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith("unetpipe.")
        and (other := PACKAGE.parent / f"{node.module.replace('.', '/')}.py").exists()
        for alias in node.names
        if alias.name in compiled(other)
    }
    return [
        f"{path.name}: {name} calls {call.id}"
        for name, function in compiled(path).items()
        for call in ast.walk(function)
        if isinstance(call, ast.Name) and call.id in known
    ]


def called(call: ast.Call) -> str:
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def test_a_function_fits_a_screen() -> None:
    assert [line for path in MODULES for line in too_long(path)] == []


def test_a_public_function_takes_few_arguments() -> None:
    assert [line for path in MODULES for line in too_many_arguments(path)] == []


def test_a_compiled_loop_calls_none_of_another_module() -> None:
    """Numba keeps it while its own file is unchanged, whatever others come to do."""
    loops = [path for path in MODULES if compiled(path)]
    assert len(loops) > 5
    assert [line for path in loops for line in foreign_loops(path)] == []


def test_records_are_read_and_written_as_types() -> None:
    found = {}
    for path in MODULES:
        place = path.relative_to(PACKAGE)
        if place.parts[0] not in ("records", "runtime"):
            found[place.as_posix()] = raw_records(path)
    assert {name for name, lines in found.items() if lines} <= set(NO_RECORDS), found


def test_what_is_no_record_still_is_none() -> None:
    assert all(raw_records(PACKAGE / name) for name in NO_RECORDS)


@pytest.mark.parametrize("room", ROOMS)
def test_tests_are_named_by_a_module_of_their_room_or_by_a_known_topic(
    room: str,
) -> None:
    tests = (Path(__file__).parent / room).glob("test_*.py")
    subjects = {path.stem.removeprefix("test_") for path in tests}
    modules = {path.stem for path in (PACKAGE / room).rglob("*.py")}
    assert subjects - modules == TOPICS.get(room, set())


def test_the_checks_can_fail(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    arguments = ", ".join(f"a{number}" for number in range(MOST_ARGUMENTS + 1))
    body = "\n".join(f"    b{number} = {number}" for number in range(MOST_LINES))
    path.write_text(f'def long({arguments}):\n    """Say."""\n    # why\n{body}\n')
    assert too_long(path) == ["module.py: long has 61 lines"]
    assert too_many_arguments(path) == ["module.py: long takes 9 arguments"]
    path.write_text(
        "import json\n"
        "a = json.loads(text)\n"
        "b = list(map(read_record, paths))\n"
        "c = Model.read(path).to_json()['spec']\n"
        "d = Model.read(path).to_json()\n"
    )
    assert raw_records(path) == [
        "line 2: json.loads",
        "line 3: read_record",
        "line 4: Model.read(path).to_json()['spec']",
    ]
