"""What sqlfluff has to know of dbt to render models that loop over variables of the project.

What belongs here: stand-ins for dbt's own functions. What does not: anything dbt itself runs.
"""

from pathlib import Path
from typing import Any

import yaml


def var(name: str) -> Any:
    """A variable as `dbt_project.yml` gives it."""
    project = Path(__file__).parents[1] / "dbt_project.yml"
    return yaml.safe_load(project.read_text(encoding="utf-8"))["vars"][name]
