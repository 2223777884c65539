"""A real Slurm on this machine, from Debian's slurm-wlm and munge: for trying `--executor slurm`, and for the tests.

    python tools/slurm_local.py start FOLDER [--nodes 2] [--cpus 2]   prints `export SLURM_CONF=…`; needs root
    python tools/slurm_local.py restart FOLDER                        stops the controller and starts it again
    python tools/slurm_local.py stop FOLDER                           its jobs end too

apt-get install --no-install-recommends slurm-wlm munge. State, logs and the configuration are in FOLDER, which may be
removed after `stop`. Several nodes are daemons of this one machine: each has ``--cpus`` of its own, whatever there are.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pretrain.common.errors import InputError, RunError, run_cli

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
SECONDS = 30.0  # for a daemon to start or to end
CONF = """\
ClusterName=local
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=bf_interval=2,sched_interval=2
ReturnToService=2
KillWait=5
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
"""


def missing() -> str:
    """Why no Slurm can be started here, in a few words; "" if one can."""
    if os.geteuid():
        return "only root can start a Slurm"
    if lacking := [name for name in PROGRAMS if not shutil.which(name, path=_path())]:
        return f"no {lacking[0]} here: apt-get install --no-install-recommends slurm-wlm munge"
    return ""


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def start(folder: Path, nodes: int = 1, cpus: int = 2) -> dict[str, str]:
    """Start controller and nodes in ``folder``; the environment variables of its users. InputError, RunError."""
    if reason := missing():
        raise InputError(reason)
    folder = folder.absolute()
    if (folder / "slurm.conf").exists():
        raise InputError(f"{folder} has a Slurm already: stop it and remove the folder, or give another")
    (folder / "munge").mkdir(parents=True)
    folder.chmod(0o755)
    (folder / "state").mkdir()
    (folder / "slurm.conf").write_text(_configuration(folder, nodes, cpus), encoding="utf-8")
    environment = {"SLURM_CONF": str(folder / "slurm.conf")}
    try:
        _start_munge(folder / "munge")
        _start_controller(folder)
        for name in _names(nodes):
            _daemon(folder, "slurmd", "-N", name)
        _until(lambda: _idle(environment) == nodes, f"the nodes of {folder} did not become idle: see its logs")
    except BaseException:
        stop(folder)
        raise
    return environment


def _configuration(folder: Path, nodes: int, cpus: int) -> str:
    host = socket.gethostname().split(".")[0]
    controller, *ports = _free_ports(nodes + 1)
    lines = [CONF.format(host=host, port=controller, folder=folder)]
    lines += [
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory=4000\n"
        for name, port in zip(_names(nodes), ports, strict=True)
    ]
    return "".join([*lines, f"PartitionName=main Nodes={','.join(_names(nodes))} Default=YES MaxTime=60 State=UP\n"])


def _names(nodes: int) -> list[str]:
    return [f"node{number}" for number in range(1, nodes + 1)]


def _free_ports(count: int) -> list[int]:
    streams = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [stream.getsockname()[1] for stream in streams]
    for stream in streams:
        stream.close()
    return ports


def _start_munge(folder: Path) -> None:
    """A munged of its own: the system's, if one runs, is left alone."""
    key = folder / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    folder.chmod(0o755)
    options = [f"--{name}={folder / name}" for name in ("socket", "pid-file", "log-file", "seed-file")]
    done = subprocess.run(
        ["munged", f"--key-file={key}", "--force", *options],
        env=os.environ | {"PATH": _path()},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RunError(f"munged did not start: {' '.join(done.stderr.split())[:300]}")
    _until((folder / "socket").exists, "munged made no socket")


def _start_controller(folder: Path) -> None:
    _daemon(folder, "slurmctld")
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    ping = ["scontrol", "ping"]
    _until(lambda: "is UP" in _said(ping, environment), f"slurmctld does not answer: see {folder}/slurmctld.log")


def _daemon(folder: Path, *command: str) -> None:
    environment = os.environ | {"PATH": _path(), "SLURM_CONF": str(folder / "slurm.conf")}
    done = subprocess.run(
        [command[0], "-f", str(folder / "slurm.conf"), *command[1:]], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise RunError(f"{command[0]} did not start: {' '.join((done.stderr or done.stdout).split())[:300]}")


def _said(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    return done.stdout


def _idle(environment: dict[str, str]) -> int:
    return len(_said(["sinfo", "--noheader", "--Node", "--states=idle", "--format=%N"], environment).split())


def _until(true: Callable[[], bool], trouble: str) -> None:
    end = time.monotonic() + SECONDS
    while not true():
        if time.monotonic() > end:
            raise RunError(trouble)
        time.sleep(0.1)


def restart(folder: Path) -> None:
    """Stop the controller and start it again; jobs go on meanwhile."""
    end_daemon(folder / "slurmctld.pid")
    _start_controller(folder)


def end_daemon(pid_file: Path) -> None:
    """End the daemon that wrote ``pid_file``, and wait for it."""
    with suppress(OSError, ValueError):
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGTERM)
        _until(lambda: not Path(f"/proc/{pid}").exists(), f"process {pid} did not end")


def stop(folder: Path) -> None:
    """End all jobs and daemons of the Slurm in ``folder``."""
    folder = folder.absolute()
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    subprocess.run(
        ["scancel", "--state=PENDING,RUNNING,SUSPENDED", "--partition=main"], env=environment, capture_output=True
    )
    with suppress(RunError):
        _until(lambda: not _said(["squeue", "--noheader"], environment).strip(), "jobs do not end")
    for pid_file in [*folder.glob("slurmd-*.pid"), folder / "slurmctld.pid", folder / "munge" / "pid-file"]:
        end_daemon(pid_file)


def main(argv: list[str]) -> int:
    """See the head of this file."""
    parser = argparse.ArgumentParser(prog="tools/slurm_local.py", description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=("start", "restart", "stop"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--cpus", type=int, default=2)
    arguments = parser.parse_args(argv)
    if arguments.command == "start":
        for name, value in start(arguments.folder, arguments.nodes, arguments.cpus).items():
            print(f"export {name}={value}")
    else:
        (restart if arguments.command == "restart" else stop)(arguments.folder)
    return 0


if __name__ == "__main__":
    run_cli(main)
