"""What the product prints to be typed can be typed."""

import re
import tomllib

from tests.workflow.conftest import REPOSITORY


def test_every_extra_that_is_asked_for_is_one_of_the_package() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    printed = "".join(
        path.read_text() for path in (REPOSITORY / "unetpipe").rglob("*.py")
    )
    asked = set(re.findall(r"unetpipe\[(\w+)\]", printed))
    assert asked >= {"tables", "openvino", "export"}
    assert asked <= set(project["optional-dependencies"])
    assert "install -e" not in printed, "who has no clone cannot type it"
