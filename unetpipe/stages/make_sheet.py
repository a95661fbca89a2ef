"""Command make_sheet: a folder of images becomes a sheet and a configuration."""

from pathlib import Path
from typing import Literal

import yaml

from unetpipe.config import check_config
from unetpipe.config.sheet import parse_sheet
from unetpipe.errors import ConfigError
from unetpipe.runtime.files import write_bytes_atomic
from unetpipe.survey.names import plain_name
from unetpipe.survey.understanding import understand


def make_sheet(
    *,
    folder: Path,
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
        If a file is there already, or the name is not one.
    DataError
        If the folder holds nothing that can be read.
    """
    folder = folder.expanduser().resolve()
    name = name or plain_name(folder.name) or "mine"
    check_config({"name": name}, "--name")
    sheet, config = (config_dir / f"{name}{ending}" for ending in (".tsv", ".yaml"))
    there = [str(path) for path in (sheet, config) if path.exists()]
    if there and not force:
        raise ConfigError(
            f"{' and '.join(there)} exist{'s' * (len(there) == 1)}; choose another "
            "--name, or overwrite with --force"
        )
    found = understand(folder, name, images, label_kind, _inside(labels, folder))
    texts = found.write(name, str(folder), sheet.as_posix())
    parse_sheet(texts[0], str(sheet))
    check_config(yaml.safe_load(texts[1]), str(config))
    config_dir.mkdir(parents=True, exist_ok=True)
    for path, text in zip((sheet, config), texts, strict=True):
        write_bytes_atomic(path, text.encode())
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


def _inside(labels: Path | None, folder: Path) -> str:
    """Return the folder of labels as it is called inside the other one."""
    if labels is None:
        return ""
    whole = labels.expanduser().absolute()
    is_inside = whole.is_dir() and whole.is_relative_to(folder)
    return (whole.relative_to(folder) if is_inside else labels).as_posix()
