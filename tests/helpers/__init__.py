"""What tests share: paths, tiny models, small corpora."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Recordings, encoders and ASR pairs that may lie beside the repository.
SHARED = ROOT.parent / "shared"
