"""What the product prints to be typed is typed here as it is, on a finished run."""

import ast
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.workflow.conftest import REPOSITORY, Project

RESULTS = "results/tiny"
EXPORTS = ("--config", "export_ngff04=[0]")
RUN = f"snakemake --configfile config/tiny.yaml {' '.join(EXPORTS)}"
COMMAND = re.compile(
    r"snakemake (?:--)?[a-z_]+|--forcerun|rm -rf? |napari |npx |xdg-open |scancel |"
    r"python (?:-m|scripts/|-c)"
)
# The test that types what a module prints, by how its name begins. Viewers open what
# they are led to in the tests of `viewer` and of the stages.
PRINTED = {
    "deploy.py python -m": "test_an_installed_wheel_runs_without_the_clone",
    "report/endings.py napari ": "test_an_image_opens_with_its_labels",
    "report/endings.py rm -r ": "test_what_is_left_of_a_volume_goes_by",
    "report/endings.py xdg-open ": "test_the_chain_runs_to_a_report",
    "report/page/commands.py napari ": "test_an_image_opens_with_its_labels",
    "report/page/commands.py npx ": "test_the_neuroglancer_address_names",
    "report/page/commands.py python -c": "test_the_command_for_fiji_writes",
    "report/page/commands.py xdg-open ": "test_the_command_for_fiji_writes",
    "report/proposal_viewer.py napari ": "test_crops_show_image_and_predicted",
    "report/viewed.py napari ": "test_napari_opens_image_probability",
    "runtime/command.py rm -r ": "test_a_run_is_deleted_by",
    "runtime/killed_runs.py scancel ": "test_a_killed_snakemake_names_the_jobs",
    "runtime/killed_runs.py snakemake --directory": "test_another_folder_has_the",
    "runtime/killed_runs.py snakemake --unlock": "test_a_lock_without_a_note_goes",
    "segmentation/block_files.py --forcerun": "test_damaged_blocks_are_labelled",
    "stages/make_sheet.py snakemake --configfile": "test_what_the_documents_ask_of_p",
    "stages/make_sheet.py snakemake plan": "test_what_the_documents_ask_of_snake",
    "stages/propose_annotations.py napari ": "test_crops_show_image_and",
    "stages/propose_annotations.py python scripts/": "test_corrections_become_rows",
    "stages/verify.py rm -r ": "test_objects_are_written_back_on_the_original",
    "storage/verification.py --forcerun": "test_what_verify_prints_mends",
    "storage/verification.py rm -r ": "test_what_verify_prints_mends",
    "storage/verification.py rm -rf ": "test_what_verify_prints_mends",
    "survey/corrections.py snakemake propose_annotations": "test_a_folder_that_hol",
}


def strings(path: Path) -> list[str]:
    """Return the texts of a module that are no docstrings."""
    tree = ast.parse(path.read_text())
    told = {
        id(body[0].value)
        for node in ast.walk(tree)
        if (body := getattr(node, "body", None))
        and isinstance(body, list)
        and isinstance(body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in told
    ]


@pytest.fixture(scope="module")
def worn(finished, tmp_path_factory) -> Project:
    """A finished project of one's own, to be damaged."""
    folder = tmp_path_factory.mktemp("worn") / "project"
    shutil.copytree(finished.folder, folder)
    project = Project(folder)
    project.snakemake("--cores", "1", *EXPORTS)
    return project


def typed(project: Project, command: str) -> subprocess.CompletedProcess[str]:
    """Return what a shell makes of a printed command, on one processor."""
    return subprocess.run(
        ["bash", "-c", re.sub(r"\bsnakemake\b", "snakemake --cores 1", command)],
        cwd=project.folder,
        env=project.environment,
        capture_output=True,
        text=True,
        check=False,
    )


def flip_byte(project: Project, pattern: str) -> None:
    """Turn over a byte of the first file of a pattern."""
    found = sorted((project.folder / RESULTS).glob(pattern))
    path = next(path for path in found if path.is_file())
    text = bytearray(path.read_bytes())
    text[len(text) // 2] ^= 0xFF
    path.unlink()  # other names of the same file stay as they are
    path.write_bytes(text)


@pytest.mark.slow
def test_what_verify_prints_mends_a_finished_run(worn) -> None:
    for pattern in (
        "unet/model.safetensors",
        "unet/weights-*/model.safetensors",
        "unet/cells/prediction-*/*.zarr/0/c/**/*",
        "unet/cells/segmentation-*/*.zarr/labels/objects/0/c/**/*",
        "unet/cells/segmentation-*/objects.csv",
    ):
        flip_byte(worn, pattern)
    (copied,) = (worn.folder / RESULTS).glob(
        "unet/cells/ngff04-????????/image.ome.zarr"
    )
    (copied / ".zattrs").unlink()
    found = typed(worn, RUN.replace(" ", " verify ", 1))
    assert found.returncode
    remedies = dict.fromkeys(re.findall("mend it:  (.*)", found.stderr))
    assert len(remedies) >= 5, found.stderr
    for remedy in remedies:
        command = remedy.removesuffix("; again if it says so").rpartition(", or ")[2]
        done = typed(worn, command)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    again = typed(worn, RUN.replace(" ", " verify ", 1))
    assert again.returncode == 0, again.stderr
    assert worn.planned(*EXPORTS) == {}


@pytest.mark.slow
def test_a_damaged_description_is_told_and_the_printed_command_goes_on(worn) -> None:
    """Finished networks are kept before a run begins; that ends none of it."""
    damaged = worn.folder / RESULTS / "unet/model.json"
    page = worn.folder / RESULTS / "report.html"
    damaged.write_text("{")
    page.unlink()
    (damaged.parent / "report.html").unlink()
    failed = typed(worn, RUN)
    said = failed.stdout + failed.stderr
    assert failed.returncode
    assert "Traceback" not in said
    assert f"{RESULTS}/unet/model.json is not JSON" in said
    assert "delete it and run again" in said
    damaged.unlink()
    (command,) = re.findall("repeat\n  (snakemake .*)", failed.stdout)
    done = typed(worn, command.replace("--cores 1 ", ""))
    assert done.returncode == 0, done.stdout + done.stderr
    assert page.exists()
    assert worn.planned(*EXPORTS) == {}


@pytest.mark.slow
def test_what_is_left_of_a_volume_goes_by_the_printed_command(worn) -> None:
    """A second volume that the sheet has no more is a folder of links here."""
    for folder in (f"{RESULTS}/volumes", f"{RESULTS}/unet"):
        shutil.copytree(worn.folder / folder / "cells", worn.folder / folder / "gone")
    (worn.folder / RESULTS / "report.html").unlink()
    done = typed(worn, RUN)
    (command,) = re.findall(r"To delete them:\n  (rm .*)", done.stdout)
    assert typed(worn, command).returncode == 0
    left = {path.name for path in (worn.folder / RESULTS).glob("*/*/")}
    assert "gone" not in left
    assert "cells" in left


@pytest.mark.slow
def test_a_lock_without_a_note_goes_by_the_printed_command(worn) -> None:
    lock = worn.folder / ".snakemake/locks/0.output.lock"
    lock.parent.mkdir(exist_ok=True)
    lock.write_text(f"{RESULTS}/report.html\n")
    refused = typed(worn, RUN)
    assert refused.returncode
    (command,) = re.findall("run `(snakemake --unlock)` once", refused.stderr)
    unlocked = typed(worn, command)
    assert unlocked.returncode == 0, unlocked.stderr
    assert typed(worn, RUN).returncode == 0


@pytest.mark.slow
def test_damaged_blocks_are_labelled_again_by_the_printed_command(worn) -> None:
    asked = "segmentation={parts: 2, threshold: 0.3}"
    parts = f"{RUN} '{asked}'"
    assert typed(worn, f"{parts} --until segment_part").returncode == 0
    found = (worn.folder / RESULTS).glob("unet/cells/segmentation-*/**/*.arrays")
    for path in found:
        path.write_bytes(path.read_bytes()[:9])
    failed = typed(worn, parts)
    assert failed.returncode
    told = re.search(
        r"delete (\S+) and repeat .*(--forcerun segment_part)", failed.stdout
    )
    done = typed(worn, f"rm -r {told[1]} && {parts} {told[2]}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert worn.planned(*EXPORTS, asked) == {}


@pytest.mark.slow
def test_a_run_is_deleted_by_the_printed_command(worn) -> None:
    said = typed(worn, f"{RUN} --delete-all-output -n")
    (command,) = re.findall("To delete the run: (rm .*)", said.stdout + said.stderr)
    assert typed(worn, command).returncode == 0
    left = [path for path in worn.folder.glob("*/tiny*") if path.is_dir()]
    assert left == []
    assert worn.planned(*EXPORTS)["download_dataset"] == 1


def test_every_printed_command_is_typed_by_a_test() -> None:
    package = REPOSITORY / "unetpipe"
    found = {
        f"{path.relative_to(package).as_posix()} {command}"
        for path in sorted(package.rglob("*.py"))
        for text in strings(path)
        for command in COMMAND.findall(text)
    }
    assert found == set(PRINTED)
    tests = "".join(p.read_text() for p in (REPOSITORY / "tests").rglob("test_*.py"))
    assert [one for one in PRINTED.values() if f"def {one}" not in tests] == []


def test_every_extra_that_is_asked_for_is_one_of_the_package() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    printed = "".join(
        path.read_text() for path in (REPOSITORY / "unetpipe").rglob("*.py")
    )
    asked = set(re.findall(r"unetpipe\[(\w+)\]", printed))
    assert asked >= {"tables", "openvino", "export"}
    assert asked <= set(project["optional-dependencies"])
    assert "install -e" not in printed, "who has no clone cannot type it"
