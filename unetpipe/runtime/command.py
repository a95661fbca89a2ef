"""The command with which a user runs the workflow, as a shell reads it."""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unetpipe.errors import ConfigError

CONFIGFILE = ("--configfile", "--configfiles")


def own_command(
    snakefile: Path,
    configfiles: Sequence[str],
    settings: Mapping[str, Any],
    parse: Callable[[list[str]], Any],
) -> str:
    """Return what the user types in a shell to run a workflow so configured.

    Parameters
    ----------
    snakefile : Path
        The main one; named only where it would not be found from here.
    configfiles : sequence of str
        As named with ``--configfile``.
    settings : mapping
        As given with ``--config``.
    parse : callable
        Reads words of ``--config``.
    """
    words = ["snakemake"]
    found = {Path(name).resolve() for name in ("Snakefile", "workflow/Snakefile")}
    if snakefile.resolve() not in found:
        words += ["--snakefile", str(snakefile), "--directory", str(Path.cwd())]
    if configfiles:
        words += ["--configfile", *map(str, configfiles)]
    if settings:
        words += ["--config", *(_as_typed(k, v, parse) for k, v in settings.items())]
    return shlex.join(words)


def check_once(arguments: Sequence[str]) -> None:
    """Refuse ``--configfile`` given twice: Snakemake reads only the last.

    Parameters
    ----------
    arguments : sequence of str
        Of Snakemake's command line.

    Raises
    ------
    ConfigError
        With the words that work.
    """
    files: list[list[str]] = []
    is_open = False
    for word in arguments:
        option, _, value = word.partition("=")
        if option in CONFIGFILE:
            files.append([value] if value else [])
            is_open = not value
        elif is_open and not word.startswith("-"):
            files[-1].append(word)
        else:
            is_open = False
    if len(files) > 1:
        names = " ".join(shlex.quote(name) for some in files for name in some)
        raise ConfigError(
            "--configfile is given twice, and Snakemake would read only the last. Name "
            "all files after one, later ones replace keys of earlier ones: "
            f"--configfile {names}"
        )


def _as_typed(key: str, value: Any, parse: Callable[[list[str]], Any]) -> str:
    """Return a setting of the command line as ``--config`` reads it back.

    Sections and lists are told as JSON, which needs no quotes within a shell's quotes.
    """
    if value is None:
        return f"{key}="
    spelled = [str(value), json.dumps(value, ensure_ascii=False)]
    if isinstance(value, (dict, list)):
        spelled.reverse()
    words = [f"{key}={text}" for text in spelled]
    return next((w for w in words if parse([w]) == {key: value}), words[0])
