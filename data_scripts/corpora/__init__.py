"""Corpora: one record and one file each, and the registry of them."""
