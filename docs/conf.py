"""How Sphinx makes a site of the manual.

What belongs here: its settings. What does not: the pages written from models (`generated.py`).
"""

project = "Wattbook"
language = "en"
extensions = ["myst_parser"]
# Headings have the anchors that forges give them.
myst_heading_anchors = 4
html_theme = "furo"
html_title = "Wattbook"
html_show_sphinx = False
html_copy_source = False
templates_path: list[str] = []
