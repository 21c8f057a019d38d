"""The corpora: one record in a file of its own for each, and the registry of them. Nothing here imports torch."""

from data_scripts.corpora.registry import CORPORA, CorpusSelection

__all__ = ["CORPORA", "CorpusSelection"]
