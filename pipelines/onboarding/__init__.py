"""Beginning a book: what an organization answers, and what of its figures will be there.

What belongs here: questions and files of answers, the reference files that they come to, and for
each site which of the four KPIs has the inputs it needs. What does not: what reference files mean
(`pipelines.reference`), and what is missing of a week that was built (dbt's `kpi_gaps`).
"""
