"""How Sphinx makes a site of the manual.

What belongs here: its settings. What does not: the pages written from models (`generated.py`).
"""

import re
from pathlib import PurePosixPath

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

project = "Wattbook"
language = "en"
extensions = ["myst_parser"]
# The source is the whole project, so that links to the README and to files of it hold.
root_doc = "docs/index"
include_patterns = ["README.md", "CONTRIBUTING.md", "docs/**.md"]
exclude_patterns = [".*", "data", "dbt_project", "pipelines", "tests", "benchmarks", "deploy"]
# Headings have the anchors that forges give them.
myst_heading_anchors = 4
# Quotes stay as they have to be typed.
smartquotes = False
html_theme = "furo"
html_title = "Wattbook"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False


def _add_contents(app: Sphinx, name: str, source: list[str]) -> None:
    """Let a page lead to those that its text names, so that no list of pages stands beside it."""
    page = PurePosixPath(name).name
    if page in ("index", "reference", "tables", "formats"):
        below = r"(?:\.\./)?" if page == "index" else f"{page}/"
        named = dict.fromkeys(re.findall(rf"\(({below}\w[\w-]*)\.md\b", source[0]))
        source[0] += "\n\n```{toctree}\n:hidden:\n\n" + "\n".join(named) + "\n```\n"


def setup(app: Sphinx) -> None:
    """Let pages lead to one another, and show CSV as it is."""
    app.add_lexer("csv", TextLexer)
    app.connect("source-read", _add_contents)
