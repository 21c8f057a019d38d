"""Running the example scripts as a user does."""

import subprocess
import sys

from tests.helpers import ROOT


def run_example(script: str, *arguments) -> subprocess.CompletedProcess:
    """Run a script of `examples/` on the CPU, in the offline environment of the tests."""
    command = [sys.executable, str(ROOT / "examples" / script), "--use_cpu", "--disable_tqdm", "true"]
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, timeout=300)
