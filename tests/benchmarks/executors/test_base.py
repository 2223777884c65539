"""Jobs that judge input."""

import pytest

from benchmarks.executors.base import Job, check_jobs
from benchmarks.executors.local import LocalExecutor
from pretrain.common.errors import InputError
from tests.benchmarks.executors import test_local
from tests.benchmarks.executors.test_local import no_preload  # noqa: F401  (a fixture)


def test_jobs_that_judge_input_leave_nothing(tmp_path, capfd):
    jobs = [Job(name=str(i), target=f"{test_local.__name__}:fail", arguments={"known": True}) for i in range(2)]
    with pytest.raises(InputError, match=r"^weights did not load$"):
        check_jobs(jobs, LocalExecutor(workers=2))
    assert capfd.readouterr().err == "" and list(tmp_path.iterdir()) == []
