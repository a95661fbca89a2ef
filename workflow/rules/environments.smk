"""Which software a job computes with: this process's, an image's, or conda's.

The package is always this process's: neither file of an environment names it, so no
environment can keep an old one. Jobs find it behind their own packages (Snakemake hands
them this process's `sys.path`).
"""

from snakemake.settings.types import DeploymentMethod

import unetpipe
from unetpipe.runtime.environments import check_environment

PACKAGE = str(Path(unetpipe.__file__).resolve().parents[1])
if PACKAGE not in sys.path:
    sys.path.append(PACKAGE)

ASKED_METHODS = workflow.deployment_settings.deployment_method
try:
    check_environment(
        sys.argv,
        CONFIG.container,
        with_image=DeploymentMethod.APPTAINER in ASKED_METHODS,
    )
except UnetpipeError as error:
    logger.error(str(error))
    sys.exit(1)

# Not in an archive: Snakemake would build the environment, and cannot pack what is of pip.
ARCHIVES = any(argument.startswith("--archive") for argument in sys.argv)
CONDA = None if ARCHIVES else "../envs/unetpipe.yaml"

if CONFIG.container:

    container: CONFIG.container
