"""The corpora: one record in a file of its own for each, and the registry of them. Nothing here imports torch."""

from data_scripts.corpora.base import CORPORA
from data_scripts.corpora.options import CorpusSelection
from data_scripts.corpora.registry import scan_corpus

__all__ = ["CORPORA", "CorpusSelection", "scan_corpus"]
