"""The simulated world of the demo: its physics, its truth and the files it lands.

What belongs here: everything that invents data. What does not: the pipeline, which may know nothing
of this package; only the command line calls `landing.simulate`.
"""
