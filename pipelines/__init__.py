"""Wattbook: the shared energy book of an organization that runs AI compute.

What belongs here: one package per stage of the way of the data, from `connectors` to `pack`, with
what people (`cli.py`) and Dagster (`definitions.py`) call. What does not: any figure's formula
(`dbt_project/`). Which package may import from which stands in `tests/test_project.py`.
"""
