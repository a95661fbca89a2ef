"""Lay the workflow out in a folder: ``python -m unetpipe.deploy FOLDER``.

An installed package brings workflow, scripts, profiles and example configurations; in
a clone they lie beside it.
"""

import shutil
import site
import sys
from pathlib import Path

from unetpipe.errors import ConfigError

PARTS = ("workflow", "scripts", "config")
_PACKAGE = Path(__file__).resolve().parent


def deploy(folder: Path) -> list[Path]:
    """Copy workflow, scripts and example configurations into a folder.

    Parameters
    ----------
    folder : Path
        Made where it is not there. Files of other names in it stay.

    Returns
    -------
    list of Path
        The folders that were written.

    Raises
    ------
    ConfigError
        If one of them is there already: nothing is overwritten.
    """
    there = [str(folder / part) for part in PARTS if (folder / part).exists()]
    if there:
        raise ConfigError(
            f"{', '.join(there)}: already there, and would be overwritten; name an "
            "empty folder, or move them away"
        )
    source = shipped()
    for part in PARTS:
        shutil.copytree(
            source / part,
            folder / part,
            ignore=shutil.ignore_patterns("__pycache__", ".*"),
        )
    return [folder / part for part in PARTS]


def shipped() -> Path:
    """Return the folder that holds what this installation shipped.

    Raises
    ------
    ConfigError
        If the package was installed without it.
    """
    places = [
        _PACKAGE.parent,
        *(
            Path(base) / "share" / "unetpipe"
            for base in (_PACKAGE.parent, sys.prefix, site.getuserbase())
        ),
    ]
    for place in places:
        if (place / "workflow" / "Snakefile").is_file():
            return place
    raise ConfigError(
        f"the workflow is in none of {', '.join(map(str, places))}; install unetpipe "
        "from its wheel or its clone"
    )


def _main(arguments: list[str]) -> None:
    if len(arguments) != 1 or arguments[0].startswith("-"):
        sys.exit("usage: python -m unetpipe.deploy FOLDER")
    try:
        written = deploy(Path(arguments[0]))
    except ConfigError as error:
        sys.exit(str(error))
    print(f"Wrote {', '.join(map(str, written))}. Next: cd {arguments[0]}; snakemake")


if __name__ == "__main__":
    _main(sys.argv[1:])
