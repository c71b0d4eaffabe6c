"""Wattbook: the shared energy book of an organization that runs AI compute."""
