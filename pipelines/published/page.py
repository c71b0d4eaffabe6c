"""Pages of one HTML file that need nothing else.

What belongs here: filling a template of `templates/`. What does not: what a page says.
"""

from pathlib import Path
from typing import Any

import jinja2

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **values: Any) -> str:
    """The page that a template of `templates/` gives with these values; none may be missing."""
    return _ENVIRONMENT.get_template(template).render(**values)
