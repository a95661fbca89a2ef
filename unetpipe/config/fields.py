"""Kinds of values that several sections share, and the base of all sections."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
COLOUR_PATTERN = r"^(#[0-9a-f]{6}|[0-9]{1,5}(-[0-9]{1,5})?)$"

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Sha256 = Annotated[str, Field(pattern=SHA256_PATTERN)]
Colour = Annotated[str, Field(pattern=COLOUR_PATTERN)]
ClassId = Annotated[int, Field(ge=0, le=254)]
Fraction = Annotated[float, Field(ge=0, le=1)]
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
