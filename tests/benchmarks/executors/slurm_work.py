"""Work of test_slurm.py's jobs, and a command that submits it: imports nothing heavy."""

import os
import sys
import time
from pathlib import Path

from benchmarks.executors import slurm
from benchmarks.executors.base import Job
from benchmarks.executors.local import LocalExecutor
from benchmarks.executors.slurm import SlurmExecutor
from benchmarks.executors.slurm_options import parse_options
from pretrain.common.claims import claimed
from pretrain.common.signals import signals_noted

TARGET = "tests.benchmarks.executors.slurm_work"


def work(folder, name, wait):
    """Note the start, wait for the file ``go`` if asked to, and note the end unless that is done already."""
    place = folder / name
    place.mkdir(exist_ok=True)
    with signals_noted() as stopping, claimed(place):
        (place / f"started-{os.environ['SLURM_JOB_ID']}-{os.environ.get('SLURM_RESTART_COUNT', 0)}").touch()
        print("waiting for", folder / "go", flush=True)
        while wait and not (folder / "go").exists():
            time.sleep(0.05)
            if stopping():
                (place / "saved").touch()
                sys.exit(143)
        if not (place / "done").exists():
            with (folder / "done.txt").open("a") as stream:
                stream.write(f"{name}\n")
            (place / "done").touch()
    return name


def job(folder, name, wait=False, **more):
    arguments = {"folder": folder, "name": name, "wait": wait}
    values = {"kind": "frozen", "work": (f"work of {name}",), "report": str, "log": folder / f"{name}.log", "gpus": 0}
    return Job(name=name, **{"target": f"{TARGET}:work", "arguments": arguments} | values | more)


def executor(*words):
    return SlurmExecutor(options=parse_options(["time=5", *words]), here=LocalExecutor(workers=1))


def main(folder, *names):
    """Submit jobs that wait for ``go``; each has a follow-up, which does not."""
    slurm.POLL_SECONDS, slurm.GRACE_SECONDS = (0.2, 0.5), 3.0
    jobs = [job(folder, name, True, then=lambda value: [job(folder, f"{value}-next")], follows=1) for name in names]
    ran = executor().run(jobs)
    print("failed:", [(one.name, reason) for one, reason in ran.failed])


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
