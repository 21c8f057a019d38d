"""The SLURM script, with stand-ins for SLURM's commands and the launcher."""

import os
import signal
import subprocess
import sys
import time

from tests.helpers import ROOT

#: A training that, once it listens, saves on SIGUSR1 and exits as `StopCallback` does; before, it is deaf for a while.
TRAINING = f"""#!{sys.executable}
import os, pathlib, signal, sys, time
here = pathlib.Path(__file__).parent
assert signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN, "its launcher would end"
(here / "pid").write_text(str(os.getpid()))
(here / "command").write_text(" ".join(sys.argv[1:]))
while not (here / "signals").exists():
    time.sleep(0.01)
def save(*_):
    (here / "saved").touch()
    sys.exit(138)
signal.signal(signal.SIGUSR1, save)
time.sleep(60)
"""
COMMANDS = {
    "accelerate": TRAINING,
    "srun": '#!/bin/bash\nexec "$@"',
    "scontrol": '#!/bin/bash\nif [ "$1" = show ]; then echo node1; else echo "$@" >> "$(dirname "$0")/requeued"; fi',
    "scancel": '#!/bin/bash\nkill -USR1 "$(cat "$(dirname "$0")/pid")"; echo "$@" >> "$(dirname "$0")/signals"',
    "sleep": "#!/bin/bash\nexec /bin/sleep 0.1",
}


def test_a_job_whose_time_is_up_lets_the_training_save_and_is_requeued(tmp_path):
    for name, body in COMMANDS.items():
        (tmp_path / name).write_text(body)
        (tmp_path / name).chmod(0o755)
    slurm = {"NNODES": "2", "GPUS_ON_NODE": "4", "JOB_ID": "7", "JOB_NODELIST": "n", "NODEID": "0"}
    environment = {**os.environ, **{f"SLURM_{name}": value for name, value in slurm.items()}}
    environment["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    job = subprocess.Popen(["bash", ROOT / "examples" / "slurm.sh", "corpus", "out", "--seed", "3"], env=environment)
    try:
        while not (tmp_path / "command").exists():
            assert job.poll() is None
            time.sleep(0.01)
        job.send_signal(signal.SIGUSR1)
        assert job.wait(timeout=60) != 0
    finally:
        job.kill()
    assert (tmp_path / "saved").exists()
    assert (tmp_path / "requeued").read_text() == "requeue 7\n"
    assert set((tmp_path / "signals").read_text().splitlines()) == {"--signal=USR1 7.0"}
    command = (tmp_path / "command").read_text()
    assert "--num_processes 8 " in command
    assert "-m m4ser train --data_dir corpus --output_dir out " in command
    assert command.endswith(" --seed 3")
