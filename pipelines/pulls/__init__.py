"""Pulls: what sources answer, landed as it came, to go the way of any other file from there.

What belongs here: asking the sources of `sources.yml` over the web, by a command or in a folder
(`web.py`), putting answers into landing whole or not at all and knowing how far each source has
been asked (`desk.py`), one module per kind of source, and pulling them one after the other
(`pulling.py`). What does not: what an answer means (`pipelines/connectors`), loading it
(`pipelines/lake`), when to pull (`pipelines/definitions.py`).

Secrets come from the environment. They are in no file, name or message.
"""

from pipelines.pulls.desk import Outcome, PullError
from pipelines.pulls.pulling import pull

__all__ = ["Outcome", "PullError", "pull"]
