"""What jobs compute with, where conda or an image provides their software."""

import os
import re
import stat
import subprocess
import sys
import sysconfig
from importlib.metadata import distributions
from pathlib import Path

import pytest
import yaml
from packaging.utils import canonicalize_name

from tests.reference.environment import ENVIRONMENT, environment_text, pins
from tests.workflow.conftest import REPOSITORY, Project
from unetpipe.errors import ConfigError
from unetpipe.runtime.environments import check_environment

# Resolves the file as conda does: from where Snakemake put it. Each environment is a
# Python that sees what is installed here, but not this project's package.
CONDA = """\
#!{python}
import json, os, subprocess, sys, yaml
from pathlib import Path
words = sys.argv[1:]
given = dict(zip(words, words[1:]))
with open({log!r}, "a") as log:
    print(*words, file=log)
if words[0] == "info":
    print(json.dumps({{"conda_prefix": {prefix!r}, "platform": "linux-64"}}))
elif words[0] == "clean":
    pass
elif words[0] == "--version":
    print("conda 25.9.1")
elif words[0] == "config":
    print(json.dumps({{"get": {{"channel_priority": "strict"}}}}))
elif words[:2] == ["env", "create"]:
    file, prefix = Path(given["--file"]), Path(given["--prefix"])
    (of_pip,) = [d["pip"] for d in yaml.safe_load(file.read_text())["dependencies"]
                 if isinstance(d, dict)]
    for wanted in of_pip:
        if wanted.startswith(("/", ".")) and not (file.parent / wanted).exists():
            sys.exit(wanted + " does not appear to be a Python project")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    site = next(prefix.glob("lib/python*/site-packages"))
    (site / "others.pth").write_text({site!r})
else:
    sys.exit("no " + " ".join(words))
"""
# As an editable installation does: no folder that could be handed on to jobs.
EDITABLE = """\
import importlib.util, sys
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "unetpipe":
            return importlib.util.spec_from_file_location(
                name, {init!r}, submodule_search_locations=[{package!r}])
sys.meta_path.insert(0, Finder)
"""
MANIFEST = "resources/tiny/manifest.json"


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def with_conda(project: Project, folder: Path) -> Path:
    """Put a stand-in for conda first; return the log of what it was asked."""
    log = folder / "asked.txt"
    base = folder / "conda"
    site = sysconfig.get_path("purelib")
    text = CONDA.format(
        python=sys.executable, log=str(log), prefix=str(base), site=site
    )
    executable(base / "bin/conda", text)
    (base / "bin/activate").write_text('export PATH="$1/bin:$PATH"\n')
    hook = folder / "hook/sitecustomize.py"
    hook.parent.mkdir()
    package = project.folder / "unetpipe"
    init = str(package / "__init__.py")
    hook.write_text(EDITABLE.format(init=init, package=str(package)))
    project.environment |= {
        "PATH": f"{base / 'bin'}{os.pathsep}{project.environment['PATH']}",
        "PYTHONPATH": str(hook.parent),
        "PYTHONSAFEPATH": "1",  # as the command `snakemake`, not `python -m`, has it
    }
    return log


@pytest.mark.slow
def test_jobs_in_conda_compute_with_the_package_that_starts_them(fresh, tmp_path):
    """In any folder, and after an upgrade too: `conda-prefix` keeps no old package."""
    log = with_conda(fresh, tmp_path)
    (tmp_path / "away").mkdir()
    options = (
        *("--software-deployment-method", "conda", "--directory", f"{tmp_path}/away"),
        *("--conda-prefix", f"{tmp_path}/kept", MANIFEST, "--nolock"),
    )
    fresh.snakemake(*options)
    told = '    logger.info("an upgraded package")\n    if kind == "folder":'
    fresh.edit("unetpipe/stages/download_dataset.py", '    if kind == "folder":', told)
    fresh.snakemake(*options, "--force")
    written = (tmp_path / "away/logs/tiny/download_dataset.log").read_text()
    assert "an upgraded package" in written
    assert "env create" in log.read_text()
    assert log.read_text().count("env create") == 1, "one environment serves both"


@pytest.mark.slow
def test_an_archive_needs_no_conda_and_holds_the_project(fresh, tmp_path):
    git = ["git", "-c", "user.name=me", "-c", "user.email=me@example.org"]
    for command in ("init -q", "add .", "commit -qm All"):
        subprocess.run([*git, *command.split()], cwd=fresh.folder, check=True)
    fresh.snakemake("--archive", "all.tar")
    listed = subprocess.run(
        ["tar", "-tf", "all.tar"],
        cwd=fresh.folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert {"unetpipe/__init__.py", "workflow/Snakefile", "config/tiny.yaml"} <= {
        *listed
    }


@pytest.mark.parametrize(
    "arguments", [["--containerize"], ["--containerize=apptainer"]]
)
def test_the_recipe_of_an_image_is_ours_and_no_other_is_written(arguments):
    with pytest.raises(ConfigError, match="Dockerfile"):
        check_environment(arguments, None, with_image=False)


def test_jobs_in_an_image_need_the_name_of_one():
    with pytest.raises(ConfigError, match=r"`container` in the configuration"):
        check_environment([], None, with_image=True)
    check_environment([], "unetpipe.sif", with_image=True)
    check_environment([], None, with_image=False)


@pytest.mark.slow
def test_a_refusal_is_one_sentence_of_the_workflow(fresh):
    done = fresh.snakemake("--dry-run", "--sdm", "apptainer", check=False)
    assert done.returncode == 1
    assert "needs an image" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def installs_pins() -> bool:
    """Return whether the pinned versions are here, whose needs are asked for."""
    pinned = pins((REPOSITORY / "constraints.txt").read_text().splitlines()).values()
    here = {canonicalize_name(d.name): d.version for d in distributions()}
    found = [line.split("==") for line in pinned]
    return all(
        here.get(canonicalize_name(name), version).split("+")[0] == version
        for name, version in found
    )


@pytest.mark.skipif(not installs_pins(), reason="other versions need other packages")
def test_the_environment_pins_what_is_tested_and_not_the_package():
    assert ENVIRONMENT.read_text() == environment_text(), "run `make schema`"
    *of_conda, of_pip = yaml.safe_load(environment_text())["dependencies"]
    assert of_conda == ["python =3.11", "pip"]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in of_pip["pip"])
    assert not any(pin.startswith("unetpipe") for pin in of_pip["pip"])


def steps(text: str) -> list[str]:
    """Return the commands that install, without line breaks and indents."""
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    return re.findall(
        r"^(?:RUN|\s+)\s*((?:if \[|pip install).*)$", joined, re.MULTILINE
    )


def test_both_images_are_made_by_the_same_steps_from_files_that_are_there():
    docker = (REPOSITORY / "Dockerfile").read_text()
    apptainer = (REPOSITORY / "workflow/envs/unetpipe.def").read_text()
    assert len(steps(docker)) == 2
    assert steps(docker) == steps(apptainer)
    copied = re.findall(r"^COPY (.+) \S+$", docker, re.MULTILINE)
    files = {name for line in copied for name in line.split()}
    section = apptainer.split("%files")[1].split("%post")[0]
    assert files == {line.split()[0] for line in section.splitlines() if line.strip()}
    sent = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert files == {line[1:] for line in sent if line.startswith("!")}
    assert all((REPOSITORY / name).exists() for name in files)
    users = re.findall(r"^USER (.+)$", docker, re.MULTILINE)
    assert users == ["unetpipe"], "not root"


@pytest.mark.parametrize(("torch", "index"), [("cpu", True), ("cuda", False)])
def test_the_steps_of_an_image_ask_for_the_build_of_torch(torch, index, tmp_path):
    """Run as the builder's shell does, with a stand-in for pip that writes down."""
    executable(tmp_path / "pip", '#!/bin/sh\necho "$@" >>asked.txt\n')
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TORCH": torch}
    for step in steps((REPOSITORY / "Dockerfile").read_text()):
        command = ["/bin/sh", "-c", step]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    of_torch, of_package = (tmp_path / "asked.txt").read_text().splitlines()
    assert of_torch.endswith(" torch")
    assert ("whl/cpu" in of_torch) is index
    assert all("--constraint constraints.txt" in one for one in (of_torch, of_package))
    assert of_package.endswith(" .[formats]")
