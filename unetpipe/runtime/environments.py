"""What is asked of environments and images that cannot work is refused at the start."""

from collections.abc import Sequence

from unetpipe.errors import ConfigError


def check_environment(
    arguments: Sequence[str], image: str | None, *, with_image: bool
) -> None:
    """Refuse commands that would silently give other software than was asked for.

    Parameters
    ----------
    arguments : sequence of str
        The command line of Snakemake.
    image : str or None
        The configuration's ``container``.
    with_image : bool
        Whether ``--software-deployment-method apptainer`` was given.

    Raises
    ------
    ConfigError
        If jobs are to run in an image and none is named, or if Snakemake is to write an
        image's recipe, which could not hold the package.
    """
    if with_image and not image:
        raise ConfigError(
            "--software-deployment-method apptainer needs an image: name it by "
            "`container` in the configuration, a file such as unetpipe.sif "
            "(apptainer build unetpipe.sif workflow/envs/unetpipe.def) or a published "
            "one such as docker://ghcr.io/OWNER/unetpipe:0.1.0"
        )
    if any(argument.startswith("--containerize") for argument in arguments):
        raise ConfigError(
            "--containerize knows conda environments only, and this workflow's holds "
            "no unetpipe: build the image from Dockerfile (docker build) or "
            "workflow/envs/unetpipe.def (apptainer build) instead"
        )
