"""Facts about a machine that stop long runs, from machines that are described."""

import resource
from types import SimpleNamespace

import pytest

from benchmarks.rehearsal import machine
from benchmarks.rehearsal.machine import Finding
from benchmarks.tasks import TASKS

H100 = {"gpus": [["H100", 80.0]] * 2, "cuda": "13.0", "cudnn": 9, "nccl": "2.27", "torch": "2.14"}


@pytest.mark.parametrize(
    ("found", "there", "level", "words"),
    [
        ({"error": "ImportError: libcuda"}, 2, "failed", "torch does not start: ImportError: libcuda"),
        (H100 | {"gpus": []}, 2, "failed", "sees 0 of 2 GPUs: install the build of torch"),
        (H100, 2, "ok", "2 GPUs: H100 (80 GB), H100 (80 GB); CUDA 13.0"),
        (H100 | {"gpus": []}, 0, "ok", "no GPU"),
    ],
)
def test_gpus_that_torch_cannot_use(found, there, level, words):
    finding = machine._device(found, there)
    assert finding.level == level and words in finding.text


def test_limits(tmp_path, monkeypatch):
    assert machine._open_files(1024, 4096).level == "warning"
    assert machine._open_files(resource.RLIM_INFINITY, 0) == Finding("ok", "open files: no limit")
    assert machine._cores(16, 4).level == "warning" and machine._cores(2, 0).level == "ok"
    assert machine._shared_memory(tmp_path / "none", 1).level == "warning"
    monkeypatch.setattr(machine, "SHARED_GB", 1e9)
    assert "--shm-size" in machine._shared_memory(tmp_path, 1).text


def test_disk_of_the_paper_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "not" / "made"))
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda place: SimpleNamespace(free=10e9))
    assert [one.level for one in machine._disk([TASKS["knn"]])] == ["ok", "warning"]
    assert "to 39 GB per checkpoint" in machine._disk([TASKS["coco-fpn-4conv1fc-6x"]])[1].text
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda place: SimpleNamespace(free=1e9))
    assert machine._disk([])[0].level == "failed"


def test_this_machine_is_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path))
    found = machine.findings()
    assert found[0].text.startswith("versions: python 3.") and str(found[0]).startswith("ok       versions")
    (tmp_path / "file").touch()
    assert machine._place(tmp_path / "file").level == "failed"
