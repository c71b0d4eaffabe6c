"""The book in Dagster: assets and checks that call what the command line calls.

What belongs here: assets (`assets.py`), checks on what was loaded (`checks.py`), resources and
partitions (`resources.py`), and telling Dagster what was done without it (`record.py`). What does
not: jobs, schedules and sensors (`pipelines/definitions.py`), and doing the work.
"""
