"""`m4ser env`."""

import torch

from m4ser.__main__ import main


def test_a_bug_report_names_versions_and_devices(capsys):
    assert main(["env"]) == 0
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert lines["torch"].split("+")[0] == torch.__version__.split("+")[0]  # only some packages tell their CUDA
    assert {"system", "python", "transformers", "m4ser", "devices"} <= lines.keys()
