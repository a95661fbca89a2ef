"""The command with which a user runs the workflow, as a shell reads it."""

import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

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


def check_disk(provider: str | None) -> None:
    """Refuse a storage of objects in place of a disk.

    Parameters
    ----------
    provider : str or None
        Of ``--default-storage-provider``, or of a profile.

    Raises
    ------
    ConfigError
        If there is one.
    """
    if provider:
        raise ConfigError(
            f"--default-storage-provider {provider} does not work: stores of images "
            "grow in place, in parts, and no rule declares them. Leave it out, and "
            "work in a folder on a disk that all jobs share"
        )


def told_of_stores(arguments: Sequence[str], folders: Sequence[str]) -> str:
    """Return what an option of Snakemake's does not know of; empty: no such option.

    Stores and states are outputs of no rule: it neither deletes nor knows them.

    Parameters
    ----------
    arguments : sequence of str
        Of Snakemake's command line.
    folders : sequence of str
        All that the run has.
    """
    if any(word.startswith("--delete-all") for word in arguments):
        return (
            "--delete-all-output leaves stores, kept weights and states of trainings "
            f"where they are. To delete the run: rm -r {shlex.join(folders)}"
        )
    if any(word.startswith(("--list-untracked", "--lu")) for word in arguments):
        return (
            "Files of stores, kept weights and states of trainings are listed too, "
            "which belong to the results: do not delete what is listed."
        )
    return ""


def own_profile(
    names: Iterable[str] | None, find: Callable[[str], tuple[Path, Path] | None]
) -> dict[str, Any]:
    """Return the options that the user's own profiles say, later ones before earlier.

    Parameters
    ----------
    names : iterable of str, optional
        As given with ``--profile`` or ``SNAKEMAKE_PROFILE``.
    find : callable
        Finds folder and file of a profile; None if there is none.
    """
    options: dict[str, Any] = {}
    for found in map(find, filter(lambda name: name != "none", names or ())):
        if found:
            options |= yaml.safe_load(found[1].read_text()) or {}
    return options


def with_one_gpu(resources: Any) -> dict[str, Any] | list[str]:
    """Return the resources of a profile, and one GPU where it does not say how many.

    Parameters
    ----------
    resources : mapping, list of str, str or None
        As profiles may spell them.

    Examples
    --------
    >>> with_one_gpu({"mem_mb": 16000}), with_one_gpu("gpu=2")
    ({'gpu': 1, 'mem_mb': 16000}, ['gpu=2'])
    """
    if isinstance(resources, str):
        resources = resources.split()
    if isinstance(resources, Sequence):
        has_gpu = any(str(word).partition("=")[0] == "gpu" for word in resources)
        return [*([] if has_gpu else ["gpu=1"]), *resources]
    return {"gpu": 1} | (resources or {})


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
