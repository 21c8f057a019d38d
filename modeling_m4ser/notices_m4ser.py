"""One-time warnings.

What was warned of is kept for the process, outside every object: a processor can be saved and sent to data loading
processes, each of which then warns once.
"""

import hashlib
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


__all__ = ["fingerprint", "warn_once"]
