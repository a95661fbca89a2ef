"""The report's section of suggested settings: a record in, what the page shows out."""

import json
from typing import Any

LISTED = 12  # volumes


def show_suggestions(record: dict[str, Any]) -> dict[str, Any]:
    """Return what ``suggestions.html`` shows of ``suggestions.json``."""
    rows = [
        {**s, "now": json.dumps(s["now"]), "suggested": json.dumps(s["suggested"])}
        for s in record["suggestions"]
    ]
    return {
        "volumes": record["volumes"][:LISTED],
        "rows": rows,
        "remarks": record["remarks"],
        "yaml": record["yaml"],
    }
