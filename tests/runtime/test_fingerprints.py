"""Fingerprints: only what computes counts, wherever it stands."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import unetpipe
from unetpipe.runtime.fingerprints import code_fingerprint, script_fingerprint

PACKAGE = Path(unetpipe.__file__).parent
GRIDS = "unetpipe.tiling.grids"
PYTHONS = ("python3.11", "python3.12", "python3.13", "python3.14")

PROBE = """
import sys
from unetpipe.runtime.fingerprints import code_fingerprint
print(code_fingerprint(*sys.argv[1:]))
"""
# Whatever minor versions of Python have been known to write differently.
KNOWN = '''
"""A module."""
import numpy as np
from functools import cache

SCALES: tuple[float, ...] = (0.1, 1e-3, -2.0)

@cache
def scaled(value: float, *, places: int = 2, **more: str) -> str:
    """Say a number."""
    width = 8
    text: str = f"a{value!r:>{width}}" "b" f"c{value:.{places}f}{{}}" f"{places=}"
    return text + "d" "e" + more.get("x", u"")

class Grid:
    edge: int = 3

    def size(self, n: int) -> "int":
        match n:
            case 0 | 1:
                return 0
            case _:
                return (m := n) and np.zeros([*range(m)], dtype="u1")[..., None]

async def wait(*, _x: object = lambda a, /, b=1: [*a, b]) -> None:
    async with _x as y:
        assert not y, "never"
    global SCALES
    del y

if SCALES:
    Grid.edge = 4
'''
KNOWN_FINGERPRINT = "ed622e3eb68e2b05"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a copy of the package that a test may edit."""
    copy = tmp_path / "unetpipe"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def fingerprint_in(package: Path, *entries: str, python: str = sys.executable) -> str:
    """Fingerprint entries of a copied package, in a process of its own."""
    run = subprocess.run(
        [python, "-c", PROBE, *(entries or (GRIDS,))],
        cwd=package.parent,
        env={"PYTHONPATH": str(package.parent)},
        check=True,
        capture_output=True,
        text=True,
    )
    return run.stdout.strip()


def edit(package: Path, name: str, old: str, new: str) -> None:
    """Edit a module of a copied package."""
    path = package / name
    text = path.read_text()
    assert text.count(old) >= 1, f"{name} no longer holds {old!r}"
    path.write_text(text.replace(old, new, 1))


def changes(package: Path, name: str, old: str, new: str) -> bool:
    """Edit a module; return whether the fingerprint of the grids changed."""
    before = fingerprint_in(package)
    edit(package, name, old, new)
    return fingerprint_in(package) != before


def test_a_module_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"unetpipe\.nothing is no module"):
        code_fingerprint("unetpipe.nothing")
    with pytest.raises(ModuleNotFoundError, match="no_such_function is no module"):
        code_fingerprint(f"{GRIDS}.no_such_function")


FUNCTION = "def round_up(length: int, multiple: int) -> int:\n"
DOCSTRING = '    """Return the smallest multiple'
BODY = "    return -(-length"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(FUNCTION, "# why\n" + FUNCTION, id="a comment"),
        pytest.param(DOCSTRING, '    """Give the smallest multiple', id="a docstring"),
        pytest.param(
            "AXES =",
            "import logging\n\n_log = logging.getLogger(__name__)\n\nAXES =",
            id="a logger",
        ),
        pytest.param(
            BODY,
            '    _log.info("rounding %s", length)\n' + BODY,
            id="a first log line",
        ),
        pytest.param(
            BODY,
            '    if length > 9:\n        _log.info("large")\n' + BODY,
            id="a log line under a condition",
        ),
        pytest.param(
            BODY, '    warnings.warn("odd", stacklevel=2)\n' + BODY, id="a warning"
        ),
        pytest.param(FUNCTION, FUNCTION.replace(": int", ""), id="types"),
        pytest.param(FUNCTION, "def unused():\n    pass\n\n\n" + FUNCTION, id="more"),
    ],
)
def test_talk_leaves_the_fingerprint(package: Path, old: str, new: str) -> None:
    assert not changes(package, "tiling/boxes.py", old, new)


def test_the_text_of_an_error_leaves_the_fingerprint(package: Path) -> None:
    old = 'raise GeometryError(f"ndim is {self.ndim}; use 2 or 3")'
    new = 'raise GeometryError("ndim must be 2 or 3")'
    assert not changes(package, "tiling/unet_spec.py", old, new)


@pytest.mark.parametrize(
    "new",
    [
        pytest.param("    return 0 - (-length", id="two imports away"),
        pytest.param("    if print(length):\n        pass\n" + BODY, id="a condition"),
        pytest.param("    length: int = length + 1\n" + BODY, id="a typed assignment"),
    ],
)
def test_a_real_edit_changes_the_fingerprint(package: Path, new: str) -> None:
    assert changes(package, "tiling/boxes.py", BODY, new)


def test_moving_a_module_leaves_the_fingerprint(package: Path) -> None:
    stages = ("unetpipe.stages.train_unet", "unetpipe.stages.predict_part")
    before = fingerprint_in(package, *stages)
    (package / "elsewhere").mkdir()
    (package / "elsewhere" / "__init__.py").write_text('"""A new room."""\n')
    (package / "tiling" / "boxes.py").rename(package / "elsewhere" / "corners.py")
    for path in package.rglob("*.py"):
        text = re.sub(
            r"\bunetpipe\.tiling\.boxes\b",
            "unetpipe.elsewhere.corners",
            path.read_text(),
        )
        path.write_text(text)
    assert not (package / "tiling" / "boxes.py").exists()
    assert fingerprint_in(package, *stages) == before


def test_the_way_of_an_import_leaves_the_fingerprint(package: Path) -> None:
    path = package / "tiling" / "grids.py"
    text = path.read_text()
    names = [
        alias.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and node.module == "unetpipe.tiling.boxes"
        for alias in node.names
    ]
    assert names, "the grids no longer use boxes"
    before = fingerprint_in(package)
    handed_on = "\n".join(f"from unetpipe.tiling.boxes import {n}" for n in names)
    (package / "tiling" / "__init__.py").write_text(handed_on + "\n")
    path.write_text(
        text.replace("from unetpipe.tiling.boxes import", "from unetpipe.tiling import")
    )
    assert fingerprint_in(package) == before


def test_a_name_that_stands_for_another_function_changes_the_fingerprint(
    package: Path,
) -> None:
    (package / "tiling" / "a.py").write_text("def f():\n    return 1\n")
    (package / "tiling" / "b.py").write_text("def f():\n    return 2\n")
    probe = package / "tiling" / "probe.py"
    lines = "from unetpipe.tiling import b\n\ndef both():\n    return b.f(), f()\n"
    probe.write_text("from unetpipe.tiling.a import f\n" + lines)
    one = fingerprint_in(package, "unetpipe.tiling.probe")
    probe.write_text("from unetpipe.tiling.b import f\n" + lines)
    assert fingerprint_in(package, "unetpipe.tiling.probe") != one
    probe.write_text(
        "def both():\n    from unetpipe.tiling import b\n"
        "    from unetpipe.tiling.a import f\n    return b.f(), f()\n"
    )
    assert fingerprint_in(package, "unetpipe.tiling.probe") == one


def test_another_library_under_the_same_name_changes_the_fingerprint(
    package: Path,
) -> None:
    probe = package / "tiling" / "probe.py"
    prints = set()
    for line in ("import numpy as np", "import cupy as np"):
        probe.write_text(f"{line}\n\ndef f():\n    return np.zeros(3)\n")
        prints.add(fingerprint_in(package, "unetpipe.tiling.probe"))
    assert len(prints) == 2


def test_a_module_that_is_asked_by_a_text_counts_as_a_whole(package: Path) -> None:
    (package / "tiling" / "a.py").write_text("def f():\n    return 1\n")
    probe = package / "tiling" / "probe.py"
    probe.write_text(
        "from unetpipe.tiling import a\n\ndef g(name):\n    return getattr(a, name)\n"
    )
    before = fingerprint_in(package, "unetpipe.tiling.probe")
    (package / "tiling" / "a.py").write_text("def f():\n    return 2\n")
    assert fingerprint_in(package, "unetpipe.tiling.probe") != before


def test_what_a_module_does_when_it_is_imported_counts(package: Path) -> None:
    boxes = package / "tiling" / "boxes.py"
    before = fingerprint_in(package)
    boxes.write_text(boxes.read_text() + "\nimport os\n\nos.environ['A'] = '1'\n")
    assert fingerprint_in(package) != before


def test_modules_that_only_talk_do_not_count(package: Path) -> None:
    stages = ("unetpipe.stages.train_unet", "unetpipe.stages.predict_part")
    before = fingerprint_in(package, *stages)
    for name in ("config/__init__.py", "config/training.py", "runtime/logs.py"):
        path = package / name
        path.write_text(path.read_text() + "\nNEW_DEFAULT = print\nprint(end='')\n")
    assert fingerprint_in(package, *stages) == before


def known(tmp_path: Path) -> Path:
    script = tmp_path / "known.py"
    script.write_text(KNOWN)
    return script


def test_the_fingerprint_of_known_source_is_that_of_every_version_of_python(
    tmp_path: Path,
) -> None:
    """The figure was found under 3.11, and must be under all that come."""
    assert script_fingerprint(known(tmp_path)) == KNOWN_FINGERPRINT


@pytest.mark.parametrize("python", PYTHONS)
def test_another_python_finds_the_same(python: str) -> None:
    found = shutil.which(python)
    if found is None or subprocess.run([found, "-V"], capture_output=True).returncode:
        pytest.skip(f"no {python} on this machine")
    stage = "unetpipe.stages.train_unet"
    run = subprocess.run(
        [found, "-c", PROBE, stage],
        cwd=PACKAGE.parent,
        check=True,
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip() == code_fingerprint(stage)


def test_what_was_found_is_kept_and_a_damaged_memory_is_made_anew(
    package: Path,
) -> None:
    first = fingerprint_in(package)
    (kept,) = (package / "runtime" / "__pycache__").glob("fingerprints.*.json")
    kept.write_text(re.sub(r'"text": "', '"text": "0', kept.read_text()))
    kept.write_text(kept.read_text().replace('"round_up": ["', '"round_up": ["0'))
    assert fingerprint_in(package) != first
    for damaged in ("", "[1]", "null"):
        kept.write_text(damaged)
        assert fingerprint_in(package) == first
    shutil.rmtree(package / "runtime" / "__pycache__")
    (package / "runtime" / "__pycache__").write_text("a disk that refuses")
    assert fingerprint_in(package) == first


EDITS_ITSELF = """
from pathlib import Path
from unetpipe.runtime import fingerprints
path = Path(fingerprints.__file__)
path.write_text(path.read_text().replace("hexdigest()[:16]", "hexdigest()[:9]"))
fingerprints.code_fingerprint("unetpipe.tiling.grids")
"""


def test_what_code_finds_that_is_edited_while_it_runs_is_not_the_new_code_s(
    package: Path,
) -> None:
    subprocess.run(
        [sys.executable, "-c", EDITS_ITSELF],
        cwd=package.parent,
        env={"PYTHONPATH": str(package.parent)},
        check=True,
    )
    assert len(fingerprint_in(package)) == 9
