"""Work of several nodes of a Slurm job, started on each of them by srun from the process on the first. No torch.

srun … python -m benchmarks.executors.nodes FILE      # in each node: the pickled work of ``on_every_node``
"""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.executors.process import ended, fork_loaders
from benchmarks.executors.slurm_task import allotted
from pretrain.common.errors import RunError
from pretrain.common.plugins import load_plugins

# Of the step that this process is in: srun would take them for the new one's.
STEP = ("SLURM_NTASKS", "SLURM_NPROCS", "SLURM_NTASKS_PER_NODE", "SLURM_NNODES", "SLURM_JOB_NUM_NODES", "SLURM_STEP_ID")


def meeting_point() -> tuple[str, int]:
    """Name of this host, which is the first node, and a port that is free on it now."""
    with socket.create_server(("", 0)) as free:
        return socket.gethostname(), free.getsockname()[1]


def srun(nodes: int) -> list[str]:
    """srun with one process on each of the job's nodes, which uses what the process that starts it has, too."""
    return ["srun", "--overlap", "--kill-on-bad-exit=1", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1"]


def call(command: list[str], *, output: bool = False) -> str:
    """Run ``command`` to its end; its standard output where ``output``. RunError if it fails.

    SIGTERM is passed on, so that the work saves; then this process ends as it did.
    """
    environment = {name: value for name, value in os.environ.items() if name not in STEP}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE if output else None, text=True, start_new_session=True
    ) as process:
        asked: list[int] = []

        def pass_on(number: int, frame: FrameType | None) -> None:
            asked.append(number)
            process.send_signal(signal.SIGTERM)

        before = signal.signal(signal.SIGTERM, pass_on)
        try:
            said = process.communicate()[0]
        except BaseException:
            process.kill()
            raise
        finally:
            signal.signal(signal.SIGTERM, before)
    if asked:
        sys.exit(128 + asked[0])
    if process.returncode:
        raise RunError(f"{Path(command[0]).name}: {ended(process.returncode)}: its log says why")
    return said or ""


def on_every_node(target: str, arguments: dict[str, Any], file: Path) -> None:
    """Call ``target`` ("module:function") on each node of this job, with ``node`` (its number) and ``url``, the first
    node's address for torch, beside ``arguments``. ``file`` carries them, on a file system that the nodes share.
    """
    nodes, _ = allotted()
    host, port = meeting_point()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps((target, {**arguments, "url": f"tcp://{host}:{port}"})))
    try:
        call([*srun(nodes), sys.executable, "-m", "benchmarks.executors.nodes", str(file.absolute())])
    finally:
        file.unlink(missing_ok=True)


def torchrun(nodes: int, each: int) -> list[str]:
    """torchrun with ``each`` processes on each of ``nodes``, and by srun where these are several."""
    program = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={each}"]
    if nodes == 1:
        return [*program, "--standalone"]
    host, port = meeting_point()
    where = [f"--nnodes={nodes}", "--rdzv-backend=c10d", f"--rdzv-endpoint={host}:{port}"]
    return [*srun(nodes), *program, *where, f"--rdzv-id={os.environ.get('SLURM_JOB_ID', 'job')}"]


def main(argv: list[str]) -> None:
    """In one node: call what ``on_every_node`` has written."""
    fork_loaders()
    load_plugins()
    target, arguments = pickle.loads(Path(argv[0]).read_bytes())
    module, function = target.split(":")
    getattr(importlib.import_module(module), function)(**arguments, node=int(os.environ["SLURM_PROCID"]))


if __name__ == "__main__":
    main(sys.argv[1:])
