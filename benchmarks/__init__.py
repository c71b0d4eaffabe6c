"""`python -m benchmarks`: what Wattbook's work costs, beside other ways of doing the same.

What belongs here: made-up input, other ways, and one table of ratios (`__main__.py`). What does
not: absolute claims, since seconds belong to a machine; ratios of one run do not.
"""
