"""Where files lie: those of this project, and those of a run that is a module's.

Another workflow may use this one as a module, from a folder or from a repository on the
web, and may put its paths elsewhere (`prefix`, `replace_prefix`).
"""

from pathlib import Path

from snakemake.path_modifier import PathModifier
from snakemake.sourcecache import LocalSourceFile

RULES = workflow.current_basedir
IS_MODULE = not workflow.modifier.is_main_snakefile()
MODIFIER = workflow.modifier.path_modifier
# `placed` does it, for the paths in `params` too, which Snakemake leaves as they are.
workflow.modifier.path_modifier = PathModifier(None, None, workflow)


def placed(path):
    """Return where a module's `prefix` or `replace_prefix` puts a path."""
    return MODIFIER.replace_prefix(path)


def own_file(path):
    """Return a file of this project, whichever folder Snakemake runs in."""
    file = RULES.join(f"../../{path}")
    if isinstance(file, LocalSourceFile):
        return Path(file.get_path_or_uri(secret_free=True)).resolve()
    return Path(workflow.sourcecache.get_path(file))


def given_or_own(path):
    """Return a file as it is named; where only this project has it, the project's."""
    if Path(path).exists() or Path(path).is_absolute():
        return Path(path)
    own = RULES.join(f"../../{path}")
    return own_file(path) if workflow.sourcecache.exists(own) else Path(path)


if not workflow.overwrite_configfiles:

    configfile: given_or_own("config/config.yaml")
