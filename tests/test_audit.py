"""The audit of dependencies: loud where it could not be done, failing where it must."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).resolve().parents[1] / ".ci" / "audit"
SAFE = {"name": "numpy", "version": "2.0", "vulns": []}
FLAW = {"id": "CVE-1", "fix_versions": ["1.1"], "aliases": [], "description": ""}
FLAWED = {"name": "x", "version": "1.0", "vulns": [FLAW]}
UNKNOWN = {"name": "y", "skip_reason": "Dependency not found on PyPI"}


def audit(tmp_path: Path, says: str, status: int) -> subprocess.CompletedProcess[str]:
    """Run the audit with a pip-audit that says this."""
    (tmp_path / "says").write_text(says)
    stand_in = tmp_path / "pip-audit"
    stand_in.write_text(
        f"#!/bin/sh\ncat {tmp_path}/says\necho 'no route' >&2\nexit {status}\n"
    )
    stand_in.chmod(0o755)
    return subprocess.run(
        [sys.executable, str(AUDIT), "constraints.txt"],
        env=os.environ | {"PATH": f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def listing(*packages: dict[str, object]) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


def test_no_known_vulnerability_passes(tmp_path):
    done = audit(tmp_path, listing(SAFE), 0)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "1 packages audited, no known vulnerability\n"


def test_a_known_vulnerability_fails_and_is_named(tmp_path):
    done = audit(tmp_path, listing(SAFE, FLAWED), 1)
    assert done.returncode == 1
    assert "x 1.0: CVE-1, fixed in 1.1" in done.stdout
    assert "raise the pins in constraints.txt" in done.stdout


@pytest.mark.parametrize("says", ["", "Traceback", "[]", "{}"])
def test_a_service_that_cannot_be_asked_is_a_loud_note(tmp_path, says):
    done = audit(tmp_path, says, 1)
    assert done.returncode == 0
    assert "NOT AUDITED: the advisory service could not be asked (no route)" in (
        done.stderr
    )


def test_packages_that_the_service_does_not_know_are_counted(tmp_path):
    done = audit(tmp_path, listing(UNKNOWN, UNKNOWN), 0)
    assert done.returncode == 0
    assert "NOT AUDITED: 2 of 2 packages are not known" in done.stderr
    assert "0 packages audited" in done.stdout
