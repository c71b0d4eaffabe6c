"""Writers of the simulated world: raw-table rows to the bytes that a real source would send.

What belongs here: one module per format, the mirror of the connector of the same name. What does
not: the world, file names and landing times (`landing.py`), reading (`pipelines/connectors`).
"""
