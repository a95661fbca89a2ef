"""What was read from YAML becomes a configuration: presets, variants, all problems."""

from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import ValidationError

from unetpipe.config.messages import (
    explain_problems,
    keys_of_sections,
    known_keys,
    list_problems,
    unknown_key,
)
from unetpipe.config.run import Config
from unetpipe.errors import ConfigError

MERGE = "tag:yaml.org,2002:merge"  # `<<` may stand several times
# The common re-implementation: padded, batch-normalised, one sigmoid channel.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "same_padding": {
        "network": {
            "padding": "same",
            "normalization": "batch",
            "head": "sigmoid",
            "dropout": 0.0,
            "initialization": "default",
        },
        "weight_map": {"enabled": False, "class_balance": False},
        "augmentation": {
            "shift_vox": 0.0,
            "rotation_degrees": 0.0,
            "elastic_sigma_vox": 0.0,
            "grey_scale": 0.0,
            "grey_shift": 0.0,
        },
        "training": {
            "learning_rate": 0.01,
            "weight_decay": 5e-4,
            "schedule": "step",
        },
    },
}


# What a variant may change, and what of it the stored volumes of all depend on.
VARIED = ("preset", "network", "weight_map", "augmentation", "training")
SHARED = {
    "network": {"ndim", "num_classes"},
    "weight_map": {"w0", "sigma_vox", "border_class", "border_vox", "border_share"},
}


def check_config(values: dict[str, Any], source: str = "the configuration") -> Config:
    """Return the validated configuration.

    Parameters
    ----------
    values : dict
        As read from YAML.
    source : str
        Where the values came from, for the message.

    Raises
    ------
    ConfigError
        Listing every problem at once: the key, the value, and what would work.
    """
    preset = PRESETS.get(str(values.get("preset", "paper")), {})
    # A section whose keys are all commented out reads as null: it has its defaults.
    values = {
        key: value
        for key, value in values.items()
        if value is not None or not known_keys(Config, (str(key),))
    }
    try:
        config = Config.model_validate(_merge(preset, values))
    except ValidationError as error:
        raise ConfigError(
            list_problems(source, explain_problems(Config, error.errors()))
        ) from None
    problems = [problem for name in config.variants for problem in _try(config, name)]
    if problems:
        raise ConfigError(list_problems(source, problems))
    return config


def with_variant(config: Config, name: str) -> Config:
    """Return the configuration with what a variant changes.

    Raises
    ------
    ConfigError
        If the variant has unknown keys or values, or changes what all variants share.
    """
    # A section whose keys are all commented out changes nothing.
    changes = {k: v for k, v in config.variants[name].items() if v is not None}
    for key, value in changes.items():
        if key not in Config.model_fields:
            raise ConfigError(f"{key}: {unknown_key(key, VARIED, _varied_below())}")
        if key not in VARIED:
            raise ConfigError(
                f"{key} is shared by all variants; use {', '.join(VARIED)}"
            )
        shared = set(value) & SHARED.get(key, set()) if isinstance(value, dict) else ()
        if shared:
            raise ConfigError(
                f"{key}.{', '.join(sorted(shared))}: shared by all variants; set it "
                "for the whole run"
            )
    given = config.model_dump(mode="json", exclude={"variants"}, exclude_unset=True)
    return check_config(_merge(given, changes), "the variant")


def _try(config: Config, name: str) -> list[str]:
    """Return what is wrong with a variant, a line a problem."""
    try:
        with_variant(config, name)
    except ConfigError as error:
        *head, last = str(error).splitlines()
        lines = [*head[1:], last] if head else [last]
        return [f"variants.{name}: {line.strip()}" for line in lines]
    return []


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def repeated_keys(text: str) -> list[str]:
    r"""Return one line for each key that stands twice in the same section.

    Text that is no YAML has none: whoever reads it says so.

    Examples
    --------
    >>> repeated_keys("steps: 1\nseed: 2\nsteps: 3\n")
    ['steps: on line 1 and again on line 3, and only the last would count; keep one']
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return []
    return [
        f"{name}: on line {first} and again on line {again}, and only the last would "
        "count; " + ("put all its keys below one" if is_section else "keep one")
        for name, first, again, is_section in _repeats(root)
    ]


def _repeats(root: yaml.Node | None) -> Iterator[tuple[str, int, int, bool]]:
    """Give name, first line, later line, and whether keys stand below it."""
    waiting: list[tuple[yaml.Node | None, str]] = [(root, "")]
    seen: set[int] = set()  # aliases make a node a child of several, or of itself
    while waiting:
        node, place = waiting.pop(0)
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [(item, place) for item in node.value]
        if not isinstance(node, yaml.MappingNode):
            continue
        lines: dict[str, int] = {}
        for key, value in node.value:
            name = f"{place}{key.value}"
            waiting.append((value, f"{name}."))
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.tag == MERGE:
                continue
            if name in lines:
                yield name, lines[name], line, isinstance(value, yaml.MappingNode)
            lines.setdefault(name, line)


def _varied_below() -> Iterator[str]:
    """Yield the keys of sections that a variant may change."""
    for path in keys_of_sections(Config):
        section, _, key = path.partition(".")
        if section in VARIED and key not in SHARED.get(section, ()):
            yield path
