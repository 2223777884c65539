"""The page of perf scripts: each with its command and output or its reason, and one failure stops no other."""

import importlib
import re
from importlib.metadata import version

import pytest
import tyro

from pretrain.common.errors import InputError
from tools import gpu_report
from tools.gpu_report import Measurement, main, measurements, report

SAYS = Measurement(title="Says", words=("-c", "print('12 images/s')"))
BREAKS = Measurement(title="Breaks", words=("-c", "import sys; sys.exit('torch.OutOfMemoryError: CUDA out of memory')"))


def test_a_failure_is_on_the_page_and_the_others_go_on(tmp_path, monkeypatch):
    pages, write = [], gpu_report.text_of
    monkeypatch.setattr(gpu_report, "text_of", lambda *rest: pages.append(write(*rest)) or pages[-1])
    done = report([BREAKS, SAYS], tmp_path / "page.md", tmp_path, 60.0, small=True)
    assert [one.reason for one in done] == ["status 1: torch.OutOfMemoryError: CUDA out of memory", ""]
    text = (tmp_path / "page.md").read_text()
    assert "FAILED, status 1: torch.OutOfMemoryError" in text and "```\n12 images/s\n```" in text
    assert "`python -c 'print('\"'\"'12 images/s'\"'\"')'`" in text  # as a person types it
    assert "At small size: these figures show that the scripts run" in text and f"torch {version('torch')}" in text
    assert "not run yet" in pages[0] and "not run yet" not in pages[1]  # a kill keeps the finished ones


def test_a_script_that_does_not_end_is_a_failure(tmp_path):
    sleeps = Measurement(title="Sleeps", words=("-c", "import time; time.sleep(60)"))
    (done,) = report([sleeps], tmp_path / "page.md", tmp_path, 0.4, small=True)
    assert done.reason == "not done after 0 s"


def test_a_small_page_never_takes_the_place_of_a_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(InputError, match=r"docs/gpu\.md is for a GPU at full size: give another path with -o"):
        main(["-o", str(gpu_report.PAGE)])


@pytest.mark.parametrize("small", [True, False])
def test_every_section_is_a_perf_script_whose_flags_exist(small):
    """In both sizes: a wrong flag would be found on the GPU node only."""
    found = measurements(small, workers=16)
    assert [one.words[2] for one in found] == [
        "step",
        "data",
        "extract",
        "linear",
        "detector",
        "detector",
        "evaluators",
    ]
    for one in found:
        assert one.words[:2] == ("-m", "benchmarks.perf")
        module = importlib.import_module(f"benchmarks.perf.{one.words[2]}")
        tyro.cli(module.Arguments, args=list(one.words[3:]))
    assert found[0].words[3:5] == ("--image-size", "224") or small


@pytest.mark.slow
def test_real_scripts_at_small_size(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    chosen = [one for one in measurements(True, 1) if one.words[2] in ("step", "data")]
    monkeypatch.setattr(gpu_report, "measurements", lambda small, workers: chosen)
    assert main(["-o", str(tmp_path / "page.md")]) == 0
    text = (tmp_path / "page.md").read_text()
    assert text.count("images/s") >= 6 and re.search(r"augmentation is \d+\.\d% of our step", text)
