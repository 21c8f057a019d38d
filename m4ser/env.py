"""`m4ser env`: the versions of what M4SER runs on, for a bug report."""

import platform
from collections.abc import Sequence

from data_scripts.errors import run_command
from data_scripts.parsers import CommandParser


def main(arguments: Sequence[str]) -> int:
    """Print one line for each: the system, Python, the packages, the devices."""
    CommandParser(prog="m4ser env", description=__doc__).parse_args(arguments)
    return run_command(_print)


def _print() -> None:
    import torch  # late: --help needs none of it

    from data_scripts.versions import collect_versions

    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    facts = {"system": platform.platform(), **collect_versions()}
    facts |= {"devices": ", ".join(devices) or f"CPU, {torch.get_num_threads()} threads"}
    print(*(f"{name}: {value}" for name, value in facts.items()), sep="\n")
