"""The report's section of suggested settings: a record in, a piece of HTML out."""

import json
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

TEMPLATE = """
<section id="suggestions">
<h2>Suggested settings</h2>
<p>What the annotated sections suggest by rules of thumb, as a place to begin. Nothing
of this was applied.</p>
<div class="scroll">
<table>
  <thead><tr><th>Volume</th><th>Sections</th><th>Voxels (y, x)</th><th>Voxel size, nm
  (z, y, x)</th><th>Cells</th><th>Width of a cell, voxels</th></tr></thead>
  <tbody>
  {% for v in volumes %}
  <tr><td>{{ v.volume }}</td><td>{{ v.num_sections }}</td>
  <td>{{ v.section_shape | join(" x ") }}</td>
  <td>{{ v.voxel_size_nm | join(", ") }}</td><td>{{ v.num_cells }}</td>
  <td>{{ "%.0f" % v.cell_diameter_vox if v.cell_diameter_vox else "-" }}</td></tr>
  {% endfor %}
  </tbody>
</table>
</div>
<div class="scroll">
<table>
  <thead><tr><th>Setting</th><th>Now</th><th>Suggested</th><th>Why</th></tr></thead>
  <tbody>
  {% for s in suggestions %}
  <tr><td style="white-space: nowrap"><code>{{ s.key }}</code></td>
  <td>{{ s.now | plain }}</td>
  <td>{% if s.is_change %}<strong>{{ s.suggested | plain }}</strong>
  {% else %}keep{% endif %}</td>
  <td>{{ s.why }}</td></tr>
  {% endfor %}
  </tbody>
</table>
</div>
{% if remarks %}
<ul>{% for remark in remarks %}<li>{{ remark }}</li>{% endfor %}</ul>
{% endif %}
{% if yaml %}
<p>To try them, put this into the configuration:</p>
<pre>{{ yaml }}</pre>
{% endif %}
</section>
"""
LISTED = 12  # volumes


def show_suggestions(record: dict[str, Any]) -> Markup:
    """Return the section that shows ``suggestions.json``."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["plain"] = json.dumps
    page = {**record, "volumes": record["volumes"][:LISTED]}
    return Markup(environment.from_string(TEMPLATE).render(page))
