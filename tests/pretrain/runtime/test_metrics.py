"""metrics.jsonl, TensorBoard, curves and the line on stderr."""

import time
from contextlib import closing

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pretrain.runtime.metrics import Metrics, Progress, draw_curves, read_metrics


def test_metrics_are_cut_to_the_step_resumed_at(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0, "loss": 1.0}\n{"step": 1, "loss": 0.5}\n{"step": 2, "lo')
    with closing(Metrics(path, 1)) as metrics:
        metrics.write({"step": 1, "loss": 0.6})
    assert read_metrics(path) == [{"step": 0, "loss": 1.0}, {"step": 1, "loss": 0.6}]


def test_damaged_rows_end_what_is_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for damage in (b"\xff\xfe\x00", b"17", b'{"loss": 1.0}', b'{"step": 1, "lo'):
        path.write_bytes(b'{"step": 0, "loss": 2.0}\n' + damage + b'\n{"step": 2, "loss": 1.0}\n')
        assert read_metrics(path) == [{"step": 0, "loss": 2.0}]


def test_tensorboard_shows_the_same_numbers_and_hides_what_was_done_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with closing(Metrics(path, 0)) as metrics:
        for step in range(4):
            metrics.write({"step": step, "loss": float(step)})
    time.sleep(1.1)  # TensorBoard orders its files by the second
    with closing(Metrics(path, 2)) as metrics:
        metrics.write({"step": 2, "loss": 20.0, "knn_top1": 0.5})
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in board.Scalars("loss")] == [(0, 0.0), (1, 1.0), (2, 20.0)]
    assert board.Scalars("knn_top1")[0].value == 0.5
    assert [row["loss"] for row in read_metrics(path)] == [0.0, 1.0, 20.0]


def test_curves_hold_a_panel_for_every_term_also_those_of_some_rows(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 0, "loss": 1.0, "data_wait": 0.1}\n{"step": 1, "loss": 0.5, "data_wait": 0.1}\n'
        '{"step": 1, "knn_top1": 0.3}\n'
    )
    for name in ("a.png", "b.png"):
        draw_curves(tmp_path / "metrics.jsonl", tmp_path / name, "title")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > 500 and picture.height > 200  # two panels side by side
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_line_says_the_share_of_time_spent_waiting_for_data(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    progress = Progress(steps=100, images_per_step=8)
    for _ in range(10):
        clock[0] += 0.4
        progress.tick(0.1)
    assert progress.rates() == {"images_per_second": 20.0, "data_wait": 0.25}
    assert not progress.due()
    clock[0] += 4.0
    assert progress.due()
    progress.show(9, {"loss": 1.0})
    assert capsys.readouterr().err == "step 10/100 loss 1.000 | 10 images/s, data wait 12%, ETA 1:12\n"
    assert progress.rates()["data_wait"] == pytest.approx(0.0)
