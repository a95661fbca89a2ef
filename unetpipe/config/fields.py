"""Kinds of values that several sections share, and the base of all sections."""

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
COLOUR_PATTERN = r"^(#[0-9a-f]{6}|[0-9]{1,5}(-[0-9]{1,5})?)$"

LONGEST_NAME = 64
# Snakemake takes a value that ends in 20 equal pieces for a rule that feeds itself.
ENDLESS = re.compile(r"(.+)\1{19}$")


def name_problem(what: str, name: str, longest: int = LONGEST_NAME) -> str:
    """Return what is wrong with a name of a file or folder, or nothing."""
    if not re.fullmatch(NAME_PATTERN, name) or len(name) > longest:
        return f"{what} is {name!r}; {name_remedy(longest)}"
    if ENDLESS.search(name):
        return (
            f"{what} is {name!r}, which ends in the same letters over and over; call "
            "it otherwise"
        )
    return ""


def name_remedy(longest: int = LONGEST_NAME) -> str:
    """Return what names may be made of."""
    return (
        f"use letters, digits, '.', '_' and '-', at most {longest}, the first a letter "
        "or digit"
    )


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Sha256 = Annotated[str, Field(pattern=SHA256_PATTERN)]
Colour = Annotated[str, Field(pattern=COLOUR_PATTERN)]
ClassId = Annotated[int, Field(ge=0, le=254)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Percent = Annotated[float, Field(gt=0, lt=100)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
NumThreads = Annotated[int, Field(ge=1)] | Literal["auto"]
Device = Literal["auto", "cpu", "cuda"]


class Section(BaseModel):
    """Base of all sections: frozen, and unknown keys are errors."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )
