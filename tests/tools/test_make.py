"""The Makefile and the set-up script, with made-up Pythons on PATH, so that nothing is installed."""

import os
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import tyro

from benchmarks.arguments import SuiteArguments
from pretrain.common.files import write_json

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("python3.13", "python3.12", "python3.11", "python3")
SHIM = "#!/bin/sh\nexit 127\n"
GOOD = """#!/bin/sh
case "$*" in
  *version_info*) echo {version} ;;
  *ensurepip*) exit {ensurepip} ;;
  *_base_executable*) echo "$0" ;;
  "-m venv"*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  "- requirements.txt"*) cat >/dev/null; echo "hash {version} $(cat requirements.txt)" ;;
  "-c ") exit 0 ;;
  *) echo "fake $*" >>"$LOG"; {work} ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the Makefile and the set-up script only, and a folder ``bin`` of Pythons that do not run."""
    (tmp_path / "tools").mkdir()
    for name in ("Makefile", "tools/setup.sh", "tools/install_detectron2.py", "requirements.txt", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    for name in NAMES:
        put_python(tmp_path, name, SHIM)
    return tmp_path


def put_python(checkout: Path, name: str, script: str = GOOD, *, version="3.12", ensurepip=0, work="true") -> None:
    path = checkout / "bin" / name
    path.write_text(script.format(version=version, ensurepip=ensurepip, work=work) if script is GOOD else script)
    path.chmod(0o755)


def make(checkout: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    path = f"{checkout / 'bin'}:{os.environ['PATH']}"
    environment = {"PATH": path, "LOG": str(checkout / "log"), "TMPDIR": str(checkout), "HOME": "/home/me", **variables}
    return subprocess.run(
        ["make", *arguments], cwd=checkout, env=environment, capture_output=True, text=True, timeout=60
    )


def said(done: subprocess.CompletedProcess) -> list[str]:
    return [line for line in done.stderr.splitlines() if not line.startswith("make")]


def calls(checkout: Path) -> list[str]:
    log = checkout / "log"
    return log.read_text().splitlines() if log.exists() else []


def put_df(checkout: Path, kilobytes: int) -> None:
    path = checkout / "bin" / "df"
    path.write_text(f"#!/bin/sh\necho head\necho disk 1 1 {kilobytes} 1% /\n")
    path.chmod(0o755)


def test_the_first_python_that_runs_makes_the_environment_in_one_resolution(checkout):
    put_python(checkout, "python3.12")
    put_python(checkout, "python3.11", version="3.11")
    done = make(checkout, "setup")
    assert done.returncode == 0, done.stderr
    assert "Python 3.12" in said(done)[0]
    pip, detectron2 = calls(checkout)
    assert pip.endswith("install -r requirements.txt -c constraints.txt")
    assert detectron2 == "fake tools/install_detectron2.py"


def test_a_ready_environment_is_left_alone_and_quickly(checkout):
    put_python(checkout, "python3.11", version="3.11")
    make(checkout, "setup")
    before = calls(checkout)
    start = time.monotonic()
    done = make(checkout, "setup")
    assert time.monotonic() - start < 2
    assert (done.returncode, said(done), calls(checkout)) == (0, [], before)


@pytest.mark.parametrize("change", ["requirements", "killed", "stampless"])
def test_an_environment_that_is_not_whole_is_removed_and_made_anew(checkout, change):
    put_python(checkout, "python3.11", version="3.11")
    assert make(checkout, "setup").returncode == 0
    leftover = checkout / ".venv" / "leftover"
    leftover.touch()
    stamp = checkout / ".venv" / "setup-stamp"
    if change == "requirements":
        (checkout / "requirements.txt").write_text("torch\n")
    elif change == "killed":
        stamp.write_text("unfinished\n")
    else:
        stamp.unlink()
    done = make(checkout, "setup")
    assert done.returncode == 0
    assert "removing it" in said(done)[0]
    assert not leftover.exists()
    assert len(calls(checkout)) == 4
    assert make(checkout, "setup").stderr == ""


def test_a_set_up_killed_half_way_finishes_next_time(checkout):
    put_python(checkout, "python3.11", version="3.11", work="kill -9 $PPID")
    assert make(checkout, "setup").returncode != 0
    assert (checkout / ".venv" / "setup-stamp").read_text() == "unfinished\n"
    put_python(checkout, "python3.11", version="3.11")
    assert make(checkout, "setup").returncode == 0
    assert (checkout / ".venv" / "setup-stamp").read_text().startswith("hash")


def test_a_failing_pip_leaves_no_environment_behind(checkout):
    put_python(checkout, "python3.11", version="3.11", work="exit 1")
    done = make(checkout, "setup")
    assert done.returncode != 0
    assert "pip could not install" in said(done)[-1]
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize(
    ("python", "message"),
    [
        (None, "no python3 here runs"),
        ({"version": "3.9"}, "python3 is Python 3.9"),
        ({"version": "3.14"}, "python3 is Python 3.14"),
        (
            {"version": "3.12", "ensurepip": 1},
            "python3 has no ensurepip (on Debian or Ubuntu: apt-get install python3.12-venv)",
        ),
    ],
)
def test_an_unfit_python_is_one_line_and_nothing_is_made(checkout, python, message):
    if python:
        put_python(checkout, "python3", **python)
    done = make(checkout, "setup")
    assert done.returncode != 0
    assert len(said(done)) == 1
    assert message in said(done)[0]
    assert not (checkout / ".venv").exists()


def test_a_python_without_ensurepip_gives_way_to_one_with_it(checkout):
    put_python(checkout, "python3.13", version="3.13", ensurepip=1)
    put_python(checkout, "python3.11", version="3.11")
    assert "with Python 3.11" in said(make(checkout, "setup"))[0]


@pytest.mark.parametrize(("kilobytes", "fits"), [(7_999_999, False), (8_000_000, True)])
def test_too_little_disk_is_one_line_and_nothing_is_made(checkout, kilobytes, fits):
    put_python(checkout, "python3.12")
    put_df(checkout, kilobytes)
    done = make(checkout, "setup")
    assert (done.returncode == 0) == fits == (checkout / ".venv").exists()
    if not fits:
        assert said(done) == ["set-up: needs 8 GB of free disk for .venv, and there are 7"]


def test_a_folder_that_is_not_ours_is_never_removed(checkout):
    put_python(checkout, "python3.12")
    mine = checkout / "mine"
    mine.mkdir()
    (mine / "precious").touch()
    done = make(checkout, "setup", "VENV=mine")
    assert done.returncode != 0
    assert "was not made by this set-up" in said(done)[0]
    assert (mine / "precious").exists()


def test_an_empty_venv_asks_the_current_python_what_is_missing_and_installs_nothing(checkout):
    put_python(checkout, "python3", work="echo lacking >&2; exit 2")
    done = make(checkout, "test", "VENV=")
    assert done.returncode != 0
    assert said(done) == ["lacking"]
    assert calls(checkout) == ["fake tools/check_env.py --missing"]
    assert not (checkout / ".venv").exists()


def test_help_lists_every_target(checkout):
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    rules = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    assert sorted(targets) == sorted(rules)
    listed = {line.split()[0] for line in make(checkout, "help").stdout.splitlines() if line.startswith("  ")}
    assert listed == set(targets)
    assert make(checkout).stdout == make(checkout, "help").stdout


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["benchmark"], "'.venv/bin/python' -m benchmarks suite demo"),
        (
            ["benchmark", "PROFILE=smoke", "CHECKPOINTS=a=/p/a.pth b=/p/b.pth", "WORKERS=2"],
            "'.venv/bin/python' -m benchmarks suite smoke --checkpoint 'a=/p/a.pth' 'b=/p/b.pth' --workers 2",
        ),
        (["benchmark", "VENV="], "python3 -m benchmarks suite demo"),
        (
            ["benchmark", "PROFILE=small", "CHECKPOINTS=a=/p/a.pth", "DATA=~/d /e"],
            "'.venv/bin/python' -m benchmarks suite small --checkpoint 'a=/p/a.pth' --data '/home/me/d' '/e'",
        ),
        (["convert", "FILE=/p/a b.pth"], "'.venv/bin/python' -m transfer convert '/p/a b.pth'"),
        (["pretrain", "PRESET=smoke-simclr", "DATA=/d"], "'.venv/bin/python' -m pretrain smoke-simclr --data '/d'"),
        (["convert", "FILE=~/b.pth"], "'.venv/bin/python' -m transfer convert '/home/me/b.pth'"),
        (["pretrain", "PRESET=p", "DATA=~/d"], "'.venv/bin/python' -m pretrain p --data '/home/me/d'"),
        (["tables", "VENV=~/an env"], "'/home/me/an env/bin/python' -m benchmarks tables demo"),
    ],
)
def test_targets_run_the_command_that_the_variables_ask_for(checkout, arguments, command):
    lines = [line.strip() for line in make(checkout, "-n", *arguments).stdout.splitlines()]
    assert lines[-1] == command


def test_every_checkpoint_given_to_make_reaches_the_suite(checkout):
    command = make(checkout, "-n", "benchmark", "CHECKPOINTS=a=/p/a.pth b=/p/b.pth", "WORKERS=2").stdout.splitlines()[
        -1
    ]
    words = shlex.split(command.strip())
    arguments = tyro.cli(SuiteArguments, args=words[words.index("suite") + 1 :])
    assert (arguments.suite, arguments.workers) == ("demo", 2)
    assert arguments.checkpoint == ("a=/p/a.pth", "b=/p/b.pth")


@pytest.mark.parametrize(("target", "needs"), [("convert", "FILE="), ("pretrain", "PRESET=")])
def test_a_target_without_its_variable_says_what_to_give(checkout, target, needs):
    done = make(checkout, "-n", target)
    assert done.returncode != 0
    assert needs in done.stderr


def test_a_schedulers_signal_reaches_the_command_and_make_waits_for_its_end(checkout):
    ending = "sleep 0.3; echo ended >>$LOG; exit 143"
    script = f"#!/bin/sh\ntrap '{ending}' TERM\necho started >>$LOG\nwhile :; do sleep 0.1; done\n"
    put_python(checkout, "python3", script)
    environment = os.environ | {"PATH": f"{checkout / 'bin'}:{os.environ['PATH']}", "LOG": str(checkout / "log")}
    command = ["make", "-o", "setup", "benchmark", "VENV="]
    process = subprocess.Popen(command, cwd=checkout, env=environment, stderr=subprocess.DEVNULL)
    while not calls(checkout):
        time.sleep(0.02)
    process.terminate()
    assert process.wait(timeout=10) != 0 and calls(checkout) == ["started", "ended"]


def test_an_environment_may_lie_in_a_folder_with_a_space(checkout):
    put_python(checkout, "python3.12")
    assert make(checkout, "tables", "VENV=an env").returncode == 0
    assert calls(checkout)[-1] == "fake -m benchmarks tables demo"
    assert {path.name for path in (checkout / "an env").iterdir()} >= {"bin", "setup-stamp"}


@pytest.mark.parametrize(
    ("variables", "results", "data"),
    [
        ({}, "results", "results/data"),
        ({"RESULTS_DIR": "my results"}, "my results", "my results/data"),
        ({"RESULTS_DIR": "other", "DATA_DIR": "my data"}, "other", "my data"),
    ],
)
@pytest.mark.parametrize("given", ["environment", "argument"])
def test_clean_keeps_records_checkpoints_tables_and_what_is_not_ours(checkout, variables, results, data, given):
    kept = {"runs", "pretrain", "backbones", "tables", "reference"}
    for name in (*kept, "features"):
        (checkout / results / name).mkdir(parents=True)
    for name in ("emoji-smoke", "a set", ".a set.123.tmp", "photographs"):
        (checkout / data / name).mkdir(parents=True)
    for name in ("emoji-smoke", "a set"):
        write_json(checkout / data / name / "data.json", {"name": name, "synthetic": True})
    (checkout / data / "photographs" / "data.json").write_text("{}")
    arguments = [f"{name}={value}" for name, value in variables.items()] if given == "argument" else []
    assert make(checkout, "clean", *arguments, **({} if arguments else variables)).returncode == 0
    assert {path.name for path in (checkout / results).iterdir()} - {"data"} == kept
    assert {path.name for path in (checkout / data).iterdir()} == {"photographs"}
    shutil.rmtree(checkout / data / "photographs")
    assert make(checkout, "clean", *arguments, **variables).returncode == 0
    assert not (checkout / data).exists()
