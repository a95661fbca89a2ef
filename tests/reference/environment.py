"""The conda environment of jobs: the tested versions of what they compute with.

``make schema`` writes ``workflow/envs/unetpipe.yaml`` from pyproject.toml and
constraints.txt. Snakemake is not in it (jobs load that of the main process), nor what
the environment has anyway.
"""

import tomllib
from collections.abc import Iterable
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / "workflow" / "envs" / "unetpipe.yaml"
NOT_OF_JOBS = {"snakemake", "setuptools"}
HEAD = """\
# What jobs compute with under `--software-deployment-method conda`; `make schema`
# writes it. Python and pip come from conda-forge, the rest at exactly the versions that
# the tests run with, whose wheels conda-forge does not promise to have (torch is PyPI's
# build: CUDA on Linux, which works without a GPU too, and takes 5 GB).
# unetpipe is not among them: jobs take it from the process that starts them, so that an
# environment never holds an old one, and serves all clones that pin the same.
channels:
  - conda-forge
  - nodefaults
dependencies:
  - python =3.11
  - pip
  - pip:
"""


def environment_text() -> str:
    """Return the content of the environment's file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = pins((ROOT / "constraints.txt").read_text().splitlines())
    needed = needed_by(project["dependencies"])
    return HEAD + "".join(f"      - {pinned[name]}\n" for name in sorted(needed))


def pins(lines: Iterable[str]) -> dict[str, str]:
    """Return the lines of a constraints file by the names of their packages."""
    return {
        canonicalize_name(line.split("==")[0]): line.strip()
        for line in lines
        if "==" in line and not line.startswith("#")
    }


def needed_by(requirements: Iterable[str]) -> set[str]:
    """Return the names of what these packages need, and what that needs."""
    found: set[str] = set()
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        one, extra = waiting.pop()
        name = canonicalize_name(one.name)
        if one.marker and not one.marker.evaluate({"extra": extra}):
            continue
        if name in NOT_OF_JOBS or (name in found and not one.extras):
            continue
        found.add(name)
        more = [Requirement(text) for text in requires(name) or ()]
        waiting += [(r, e) for r in more for e in ("", *one.extras)]
    return found


def declared() -> list[str]:
    """Return what pyproject.toml declares for runs and formats, without torch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["formats"]
    return [text for text in wanted if Requirement(text).name != "torch"]


if __name__ == "__main__":
    print(*declared(), sep="\n")  # for `make test-lowest`
