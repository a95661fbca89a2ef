"""Pages from templates: escaped, and a value that is missing is an error."""

import hashlib
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from unetpipe.runtime.text import count_in_words, count_noun, describe_seconds


def render(template: str, page: dict[str, Any]) -> bytes:
    """Return a page of HTML.

    Parameters
    ----------
    template : str
        Its file name beside this module.
    page : dict
        What it shows.
    """
    environment = Environment(
        loader=PackageLoader("unetpipe.report.page", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "in_words": count_in_words,
        "count": count_noun,
        "duration": describe_seconds,
    }
    return environment.get_template(template).render(page).encode()


def templates_version() -> str:
    """Return the hash of all templates and styles: an edit of them is a new page."""
    found = sorted(
        (entry.name, entry.read_bytes())
        for entry in files("unetpipe.report.page").iterdir()
        if entry.name.endswith((".html", ".css"))
    )
    return hashlib.sha256(repr(found).encode()).hexdigest()[:16]
