"""How a command ends."""

from benchmarks.report.summary import stage_lines


def test_a_stage_is_its_jobs_their_seconds_together_and_the_longest():
    lines = stage_lines({"data": [53.2], "pretrain": [600.0, 60.0, 30.0]})
    assert [line.split() for line in lines] == [
        ["stage", "jobs", "time", "longest"],
        ["data", "1", "53", "s", "53", "s"],
        ["pretrain", "3", "11.5", "min", "10.0", "min"],
    ]
    assert len({len(line) for line in lines}) == 1  # the columns are aligned
    assert stage_lines({}) == []
