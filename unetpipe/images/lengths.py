"""Units of length as files write them, in nanometres."""

from typing import Any

NM_PER_UNIT = {
    1e-3: ("pm", "picometer", "picometre"),
    0.1: ("å", "angstrom", "ångström"),
    1.0: ("nm", "nanometer", "nanometre", "nanometers", "nanometres"),
    1e3: (
        *("µm", "μm", "um", "\\u00b5m", "micron", "microns"),  # two letters look alike
        *("micrometer", "micrometre", "micrometers", "micrometres"),
    ),
    1e6: ("mm", "millimeter", "millimetre", "millimeters", "millimetres"),
    1e7: ("cm", "centimeter", "centimetre", "centimeters", "centimetres"),
    2.54e7: ("in", "inch", "inches"),
    1e9: ("m", "meter", "metre", "meters", "metres"),
}


def nm_per_unit(unit: Any) -> float | None:
    """Return how many nanometres a unit is, None if it is no known length.

    Examples
    --------
    >>> nm_per_unit("Micrometer"), nm_per_unit("pixel")
    (1000.0, None)
    """
    wanted = str(unit).strip().lower()
    return next((nm for nm, names in NM_PER_UNIT.items() if wanted in names), None)
