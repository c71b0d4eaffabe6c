"""What teams get to read, and reading it.

What belongs here: handing every team its tables (`publishing.py`), asking them (`query.py`), and
what is laid out from them for people: a week (`week.py`), a contract's statement (`statement.py`),
a site's yearly report (`report.py`), as pages (`page.py`). What does not: any figure's formula
(`dbt_project/`), and the weekly pack (`pipelines/pack`). Nothing but `publishing.py` looks at the
warehouse, so that asking loads no more than a query needs.
"""
