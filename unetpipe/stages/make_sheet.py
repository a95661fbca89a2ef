"""Command make_sheet: a folder of images becomes a sheet and a configuration."""

from pathlib import Path
from typing import Literal

import yaml

from unetpipe.config import check_config
from unetpipe.config.sheet import parse_sheet
from unetpipe.errors import ConfigError
from unetpipe.runtime.files import write_bytes_atomic
from unetpipe.runtime.text import count_noun
from unetpipe.survey.corrections import describe_corrections
from unetpipe.survey.names import plain_volume_name
from unetpipe.survey.understanding import understand


def make_sheet(
    *,
    folder: Path | None = None,
    corrections: Path | None = None,
    name: str | None = None,
    config_dir: Path = Path("config"),
    images: Literal["auto", "independent", "stack"] = "auto",
    label_kind: Literal["auto", "instances", "binary", "classes"] = "auto",
    labels: Path | None = None,
    force: bool = False,
) -> None:
    """Read a folder, write ``<name>.tsv`` and ``<name>.yaml``, and say why.

    Headers of images are read, and the values of labels; the folder is left as it is.

    Parameters
    ----------
    folder : Path
        Of images, with or without labels: see ``config/README.md`` for the layouts.
    corrections : Path, optional
        In place of it: where ``propose_annotations`` wrote its crops. The sheet is then
        that run's, with a row for each crop that was corrected, and the configuration
        goes on from its network.
    name : str, optional
        Of the run; None: the folder's.
    config_dir : Path
        Where to write.
    images : {"auto", "independent", "stack"}
        Whether numbered files of one size are images of their own, or the sections of
        one volume; ``auto`` compares neighbours.
    label_kind : {"auto", "instances", "binary", "classes"}
        What values of labels mean; ``auto`` judges by what they hold.
    labels : Path, optional
        The folder that holds the labels, in ``folder``: its path or its name; None: by
        names, and by what files hold.
    force : bool
        Overwrite files that are there.

    Raises
    ------
    ConfigError
        If a file is there already, the name is not one, or no folder is given.
    DataError
        If the folder holds nothing that can be read, or nothing was corrected.
    """
    if (folder is None) == (corrections is None):
        raise ConfigError("give a folder of images, or --corrections FOLDER")
    given = (folder or corrections or Path()).expanduser().resolve()
    name = name or (plain_volume_name(given.name) if folder else "corrected") or "mine"
    check_config({"name": name}, "--name")
    sheet, config = (config_dir / f"{name}{ending}" for ending in (".tsv", ".yaml"))
    there = [str(path) for path in (sheet, config) if path.exists()]
    if there and not force:
        raise ConfigError(
            f"{' and '.join(there)} exist{'s' * (len(there) == 1)}; choose another "
            "--name, or overwrite with --force"
        )
    if corrections is not None:
        texts, num_new = describe_corrections(given, name, sheet.as_posix())
        _write((sheet, config), texts)
        print(
            f"{count_noun(num_new, 'crop')} that {'was' if num_new == 1 else 'were'} "
            f"corrected: wrote {sheet} and {config}\n\nnext:\n"
            f"  snakemake --configfile {config}         # train on, from {given.parent}"
        )
        return
    found = understand(given, name, images, label_kind, _inside(labels, given))
    texts = found.write(name, str(given), sheet.as_posix())
    _write((sheet, config), texts)
    print("\n".join([*found.describe(), "", f"wrote {sheet} and {config}", ""]))
    if found.can_train:
        print(
            "next:\n"
            f"  snakemake plan --configfile {config}    # work, memory, disk, time\n"
            f"  snakemake --configfile {config}         # run it"
        )
    else:
        print(
            "next: annotate some sections, and make the sheet again with --force; or "
            f"name a trained network with the key trained in {config}, then\n"
            f"  snakemake --configfile {config}         # run it"
        )


def _write(paths: tuple[Path, Path], texts: tuple[str, str]) -> None:
    """Write sheet and configuration, if they can be read again."""
    sheet, config = paths
    parse_sheet(texts[0], str(sheet))
    check_config(yaml.safe_load(texts[1]), str(config))
    sheet.parent.mkdir(parents=True, exist_ok=True)
    for path, text in zip(paths, texts, strict=True):
        write_bytes_atomic(path, text.encode())


def _inside(labels: Path | None, folder: Path) -> str:
    """Return the folder of labels as it is called inside the other one."""
    if labels is None:
        return ""
    whole = labels.expanduser().absolute()
    is_inside = whole.is_dir() and whole.is_relative_to(folder)
    return (whole.relative_to(folder) if is_inside else labels).as_posix()
