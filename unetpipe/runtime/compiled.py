"""Where numba keeps what it compiles, when neither package nor home can be written.

numba looks for a place as it reads a loop, and where it finds none, the module that has
the loop cannot be imported: a shared, read-only installation, in a container or job
without a home of its own.
"""

import os
import stat
import sys
import tempfile
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path

PLACE = "NUMBA_CACHE_DIR"
_HERE = Path(__file__).parent / "__pycache__"


def place_compiled(environment: MutableMapping[str, str] = os.environ) -> None:
    """Name a folder of temporary files for compiled code, if no other will do.

    Parameters
    ----------
    environment : mutable mapping
        Of this process, and of those that it starts.
    """
    if environment.get(PLACE):
        return
    home = Path(environment.get("HOME") or "/")
    user = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
    if any(map(_can_hold, (_HERE, user))):
        return
    with suppress(OSError):  # no place at all: numba says so
        environment[PLACE] = str(_own_folder())
        if settings := sys.modules.get("numba.core.config"):  # it has read them already
            vars(settings)["CACHE_DIR"] = environment[PLACE]


def _can_hold(folder: Path) -> bool:
    """Return whether a folder is there, or can be made, and takes files."""
    existing = next(
        p for p in (folder, *folder.absolute().parents) if os.path.lexists(p)
    )
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def _own_folder() -> Path:
    """Return a folder that nobody else writes to: compiled code is code."""
    folder = Path(tempfile.gettempdir()) / f"unetpipe-compiled-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if is_own and not found.st_mode & 0o022:
        return folder
    return Path(tempfile.mkdtemp(prefix="unetpipe-compiled-"))
