"""How Sphinx makes a site of the manual.

What belongs here: its settings. What does not: the pages written from models (`generated.py`).
"""

import re

from sphinx.application import Sphinx

project = "Wattbook"
language = "en"
extensions = ["myst_parser"]
# Headings have the anchors that forges give them.
myst_heading_anchors = 4
html_theme = "furo"
html_title = "Wattbook"
html_show_sphinx = False
html_copy_source = False


def _add_contents(app: Sphinx, name: str, source: list[str]) -> None:
    """Let a page lead to those that its text names, so that no list of pages stands beside it."""
    below = "" if name == "index" else f"{name}/"
    if name in ("index", "reference", "tables", "formats"):
        named = dict.fromkeys(re.findall(rf"\(({below}[\w-]+)\.md\)", source[0]))
        lines = ["```{toctree}", ":hidden:", "", *named, "```"]
        source[0] += "\n\n" + "\n".join(lines) + "\n"


def setup(app: Sphinx) -> None:
    """Let pages lead to one another."""
    app.connect("source-read", _add_contents)
