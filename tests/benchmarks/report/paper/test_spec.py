"""The layout's TOML: built-in ones are usable, and an error names the place."""

import pytest

from benchmarks.report.paper.spec import built_in, find_spec, read_spec
from pretrain.common.errors import InputError
from tests.benchmarks.report.paper.conftest import SPEC


def test_every_built_in_layout_is_usable_and_under_its_name():
    found = built_in()
    papers = {"simsiam-table5", "moco-table2", "moco-table5", "infomin-coco", "transfer", "frozen-features"}
    assert papers <= found.keys() and all(name == spec.name == find_spec(name).name for name, spec in found.items())


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('task = "low-shot"', 'task = "low_shot"', r"columns\[0\].*unknown task low_shot: did you mean low-shot"),
        ('task = "low-shot"', 'task = "linear-sgd"', r"columns\[0\].*group of tasks"),
        ('metric = "bbox/AP"', 'metric = "box"', r"columns\[2\].*no metric box: it has bbox/AP"),
        ('heading = "AP"', "heading = 5", r"columns\[2\]\.heading is 5, not text"),
        ('heading = "AP"', "decimals = 9", r"columns\[2\]\.decimals is 9: give 0 to 6"),
        ('heading = "AP"', 'head = "AP"', r"columns\[2\] has the unknown field 'head'"),
        ('metric = "bbox/AP50"', 'metric = "bbox/AP"', r"columns\[2\] is there twice"),
        ('label = "gamma"', 'label = "alpha"', r"rows\[4\]: two rows are of alpha"),
        ('label = "gamma"', 'label = "gamma"\nmethod = "x"', r"rows\[4\]: give either"),
        ('label = "gamma"', 'label = "gamma"\nepochs = "2"', r"rows\[4\]: epochs, source and beside are for"),
        ('delta_to = "alpha"', 'delta_to = "omega"', "delta_to is 'omega', the label of no row"),
        ('delta_to = "alpha"', 'delta_to = "alpha"\nprofile = "big"', "profile is 'big': choose from"),
        ('delta_to = "alpha"', 'delta_to = "alpha"\nranks = ["knn/top1"]', "ranks has 'knn/top1', which is no column"),
        ('delta_to = "alpha"', 'delta_to = "alpha"\nname = "x"', "name is the file's own"),
        ("[[columns]]", '[[figures]]\nname = "f"\nkind = "pie"\n[[columns]]', r"figures\[0\]: kind is 'pie'"),
        ("[[columns]]", "[[columns]", "cannot be read as TOML"),
    ],
)
def test_an_error_names_the_place(tmp_path, old, new, words):
    path = tmp_path / "mine.toml"
    path.write_text(SPEC.replace(old, new, 1))
    with pytest.raises(InputError, match=words) as error:
        read_spec(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_an_unknown_table_says_what_there_is():
    with pytest.raises(InputError, match=r"smoke, demo, .*simsiam-table5"):
        find_spec("simsiam")
