"""What is told once and what is not told: warnings of a recording or text, and bars that would count to one.

What was warned of is kept for the process, outside every object: a processor can be saved and sent to data loading
processes, each of which then warns once.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from transformers.utils import logging

logger: Any = logging.get_logger(__name__)

_given: set[tuple[str, str]] = set()


def fingerprint(content: np.ndarray | str) -> str:
    """Return what tells samples or a text from others where they have no name.

    Args:
        content (`np.ndarray` or `str`): samples of any type, or text.
    """
    data = np.ascontiguousarray(content).tobytes() if isinstance(content, np.ndarray) else repr(content).encode()
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def warn_once(kind: str, name: str, message: str, same: str | None = None) -> None:
    """Warn, unless a warning of this kind was given under this name.

    Args:
        kind (`str`): what is warned of.
        name (`str`): of the file, or its content's fingerprint.
        message (`str`): the warning.
        same (`str`, *optional*): another name of the same content, under which it is not warned of again either.
    """
    if (kind, name) not in _given:
        logger.warning(message)
    _given.update((kind, each) for each in (name, same) if each is not None)


@contextlib.contextmanager
def no_bar_for_one_file() -> Iterator[None]:
    """Hide the progress bars of transformers that would count to one: small models are saved in one file."""

    def create(factory: Callable, args: tuple, kwargs: dict):
        single = bool(args) and hasattr(args[0], "__len__") and len(args[0]) <= 1
        options = {**kwargs, "disable": True} if single else kwargs
        return factory(*args, **options) if previous is None else previous(factory, args, options)

    previous = logging.set_tqdm_hook(create)
    try:
        yield
    finally:
        logging.set_tqdm_hook(previous)


__all__ = ["fingerprint", "no_bar_for_one_file", "warn_once"]
