"""The weekly pack: one page and one JSON file per ISO week and team.

What belongs here: asking the published book what a pack shows (`sections.py`), holding the answers
as one document (`document.py`), drawing it (`charts.py`, `page.py`), and publishing it once, later
restatements as revisions beside it (`publishing.py`). What does not: any figure's formula
(`dbt_project/`), sending packs, or scheduling them.
"""

from pipelines.pack.document import PackError
from pipelines.pack.publishing import PublishedPack, publish

__all__ = ["PackError", "PublishedPack", "publish"]
