"""Modules of the user's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.executors import local
from benchmarks.executors.base import Job
from benchmarks.executors.local import LocalExecutor
from pretrain.common.errors import InputError
from pretrain.common.plugins import VARIABLE, load_plugins, plugin_arguments, use_plugins

CHECKOUT = Path(__file__).resolve().parents[3]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with sys.path, its modules and the environment put back afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv(VARIABLE, "")
    yield tmp_path
    for name in [name for name in sys.modules if name.endswith("_of_mine")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("words", "names", "rest"),
    [
        (["run", "--plugin", "a", "--task", "knn"], ("a",), ["run", "--task", "knn"]),
        (["--plugin=a.b", "suite", "x", "--plugin", "c"], ("a.b", "c"), ["suite", "x"]),
        (["run", "--plugins", "a"], (), ["run", "--plugins", "a"]),  # another flag, which tyro refuses
        ([], (), []),
    ],
)
def test_the_flag_may_be_anywhere(words, names, rest):
    assert plugin_arguments(words) == (names, rest)


@pytest.mark.parametrize("words", [["--plugin"], ["--plugin="], ["--plugin", "my_module.py/x"], ["--plugin", "a..b"]])
def test_what_is_no_name_of_a_module_is_refused(words):
    with pytest.raises(InputError, match="give the name of a module, as in import"):
        plugin_arguments(["run", *words])


def test_modules_of_the_working_directory_are_imported_once_and_kept_for_jobs(folder, capfd):
    for name in ("first_of_mine", "second_of_mine"):
        (folder / f"{name}.py").write_text(f"print('importing {name}')")
    use_plugins(("first_of_mine",))
    use_plugins(("second_of_mine", "first_of_mine"))
    load_plugins()
    assert capfd.readouterr().out.split("\n") == ["importing first_of_mine", "importing second_of_mine", ""]
    assert os.environ[VARIABLE] == "first_of_mine second_of_mine"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import no_such_module", "it cannot be imported (ModuleNotFoundError: No module named 'no_such_module')"),
        ("1 / 0", "it cannot be imported (ZeroDivisionError: division by zero)"),
        ("raise ValueError('two\\nlines')", r"it cannot be imported (ValueError: two\nlines)"),
        (None, "it cannot be imported (ModuleNotFoundError: No module named 'broken_of_mine')"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(folder, text, words):
    if text is not None:
        (folder / "broken_of_mine.py").write_text(text)
    with pytest.raises(InputError) as caught:
        use_plugins(("broken_of_mine",))
    assert str(caught.value) == f"--plugin broken_of_mine: {words}"


def test_our_own_refusals_are_passed_on_as_they_are(folder):
    (folder / "twice_of_mine.py").write_text(
        "from benchmarks import tasks\nimport dataclasses\n"
        "tasks.register(dataclasses.replace(tasks.TASKS['knn'], title='other'))"
    )
    with pytest.raises(InputError, match=r"^two tasks are named knn: rename one of them$"):
        use_plugins(("twice_of_mine",))


def test_jobs_have_the_modules_too(folder, monkeypatch):
    monkeypatch.setattr(local, "PRELOAD", [])
    (folder / "job_of_mine.py").write_text("import os\nos.environ['JOB_OF_MINE'] = 'imported'")
    use_plugins(("job_of_mine",))
    monkeypatch.delenv("JOB_OF_MINE")
    found = []
    job = Job(
        name="a", target="os:getenv", arguments={"key": "JOB_OF_MINE"}, then=lambda value: found.append(value) or []
    )
    assert LocalExecutor(workers=1).run([job]).failed == [] and found == ["imported"]


def test_a_task_of_a_module_is_one_of_the_command(folder):
    (folder / "task_of_mine.py").write_text(
        "from benchmarks import tasks\nimport dataclasses\n"
        "tasks.register(dataclasses.replace(tasks.TASKS['knn'], name='nearest'))"
    )
    words = ["run", "--task", "nearst", "--checkpoint", "x", "--data", "y", "--plugin", "task_of_mine"]
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown task nearst: did you mean nearest")
