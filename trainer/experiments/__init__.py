"""Whole experiments, from a command line to a run directory."""
