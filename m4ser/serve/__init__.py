"""`m4ser serve`: the pipeline behind an address, in the shapes that existing clients speak."""

import os
from dataclasses import dataclass

_CORES = os.cpu_count() or 1
#: On a CPU, so many batches side by side, with so many threads each, are faster than one with many threads.
CPU_WORKERS = min(_CORES, 4)
CPU_THREADS = _CORES // CPU_WORKERS


@dataclass(frozen=True)
class Settings:
    """What the server allows; see `m4ser serve --help`."""

    token: str | None = None
    cors_origins: tuple[str, ...] = ()
    batch_size: int = 16
    batch_ms: float = 10.0
    max_mb: float = 25.0
    max_seconds: float = 3600.0
    max_requests: int = 64
    timeout: float = 600.0
    segments: str = "silero"

    @property
    def max_bytes(self) -> int:
        """How many bytes a body may have."""
        return int(self.max_mb * (1 << 20))
