"""Factors of images: the embedded set's list, and a user's CSV, prepared, checked and stored beside the layout."""

import csv
import gzip

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.data import factors
from benchmarks.data.root import DataRoot
from benchmarks.tasks import TASKS
from pretrain.common.errors import InputError
from tests.pretrain.conftest import write_images


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Two classes with six training and two val images each."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))
    for split, count in (("train", 6), ("val", 2)):
        for name in ("a", "b"):
            write_images(tmp_path / "source" / split / name, count)
    return tmp_path / "source"


def names_of(root):
    folder = root.folder("imagenet")
    return {
        split: sorted(path.relative_to(folder / split).as_posix() for path in (folder / split).rglob("*.jpg"))
        for split in ("train", "val")
    }


def lines(source):
    """A line per image: its path, a number, a turn, two coordinates, a word, a group; one number is unknown."""
    images = sorted(path.relative_to(source).as_posix() for path in source.rglob("*.jpg"))
    header = ["camera_degrees", "image", "x", "y", "light", "group", "same", "word"]
    rows = [
        [f"{20 * n}", one, f"{n / 10}", f"{n}", "" if n == 3 else f"{n}.5", f"g{n % 3}", "1", f"w{n % 2}"]
        for n, one in enumerate(images)
    ]
    return header, rows


def written(path, header, rows):
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def test_a_users_list_is_stored_beside_the_layout_whose_fingerprint_stays(source, tmp_path, capsys):
    assert main(["prepare", "imagenet", str(source)]) == 0
    plain = DataRoot.load(capsys.readouterr().out.strip())
    with pytest.raises(InputError, match=r"has no factors.csv.gz: give `prepare imagenet … --factors FILE`"):
        TASKS["factors"].check(plain, "smoke")
    header, rows = lines(source)
    given = written(tmp_path / "list.csv", header, rows[::-1])
    assert main(["prepare", "imagenet", str(source), "--factors", str(given)]) == 0
    root = DataRoot.load(capsys.readouterr().out.strip())
    assert root.section("imagenet")["fingerprint"] == plain.section("imagenet")["fingerprint"]
    names = names_of(root)
    found, groups = factors.factors_of(root, names)
    assert {name: one.kind for name, one in found.items()} == {
        "position": "number", "camera_degrees": "circle", "light": "number", "word": "category",
    }  # fmt: skip
    order = [row[1].partition("/")[2] for row in rows if row[1].startswith("train")]
    assert names["train"] == order and len(groups) == len(rows)
    assert found["position"].values.tolist() == [[float(row[2]), float(row[3])] for row in rows]
    assert found["light"].known.tolist() == [row[4] != "" for row in rows]
    turned = np.radians([float(row[0]) for row in rows])
    assert np.allclose(found["camera_degrees"].values, np.stack([np.cos(turned), np.sin(turned)], 1))
    assert [found["word"].names[code] for code in found["word"].values] == [row[7] for row in rows]
    assert len(set(groups)) == 3 and (groups == [int(row[5][1]) for row in rows]).all()
    # Another value is other data of this task alone, and is told to prepare again where the file has changed since.
    before = TASKS["factors"].data_fingerprint(root)
    rows[0][7] = "w9"
    written(given, header, rows)
    with pytest.raises(InputError, match="has changed since"):
        root.check_unchanged()
    assert main(["prepare", "imagenet", str(source), "--factors", str(given)]) == 0
    again = DataRoot.load(capsys.readouterr().out.strip())
    assert TASKS["factors"].data_fingerprint(again) != before
    assert TASKS["linear"].data_fingerprint(again) == TASKS["linear"].data_fingerprint(plain)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda header, rows: header.remove("image"), "name each column once, one of them image"),
        (lambda header, rows: header.__setitem__(0, "x"), "name each column once, one of them image"),
        (lambda header, rows: rows[1].pop(), "line 3 has 7 cells, not 8"),
        (
            lambda header, rows: rows[2].__setitem__(1, "train/a/x.jpg"),
            "line 4: train/a/x.jpg is no image of the set",
        ),
        (
            lambda header, rows: rows[0].__setitem__(1, "a/000.jpg"),
            "a/000.jpg is an image of both splits: write",
        ),
        (lambda header, rows: rows.insert(1, rows[0]), "train/a/000.jpg has two lines"),
        (lambda header, rows: rows.pop(0), "has no line for train/a/000.jpg"),
        (lambda header, rows: header.__setitem__(0, " "), "name each column once"),  # as of a table's own index
        (lambda header, rows: header.__setitem__(0, "position"), "a factor cannot be named 'position'"),
        (lambda header, rows: header.__setitem__(0, "z light"), "a factor cannot be named 'z light'"),
        (lambda header, rows: header.__setitem__(0, "two\nlines"), r"a factor cannot be named 'two\\nlines'"),
        (
            lambda header, rows: [row.__setitem__(5, "g0") for row in rows],
            "column group has one value, and a probe is tested on other groups: leave it out",
        ),
        (
            lambda header, rows: [row.__setitem__(7, row[1][:5]) for row in rows],
            "column word has no value that both train and val images have",
        ),
        (
            lambda header, rows: [row.__setitem__(4, "") for row in rows if row[1].startswith("val")],
            "column light has no value that both train and val images have, or is empty in one: fill it in",
        ),
    ],
)
def test_an_unusable_list_is_refused_in_one_line(source, tmp_path, capsys, change, said):
    header, rows = lines(source)
    change(header, rows)
    given = written(tmp_path / "list.csv", header, rows)
    with pytest.raises(InputError, match=said):
        main(["prepare", "imagenet", str(source), "--factors", str(given)])
    assert not (tmp_path / "results" / "data" / "imagenet-source").exists()


def test_a_list_that_is_not_there_and_a_damaged_one(source, tmp_path, capsys):
    with pytest.raises(InputError, match=r"none.csv is not a file: give a CSV"):
        main(["prepare", "imagenet", str(source), "--factors", str(tmp_path / "none.csv")])
    header, rows = lines(source)
    given = written(tmp_path / "list.csv", header, rows)
    assert main(["prepare", "imagenet", str(source), "--factors", str(given)]) == 0
    root = DataRoot.load(capsys.readouterr().out.strip())
    stored = factors.factors_file(root, "val")
    whole = stored.read_bytes()
    for content in (b"", b"plain", whole[:-9], gzip.compress(b"image,x\na/000.jpg\n"), gzip.compress(b"\xff\xfe")):
        stored.write_bytes(content)
        with pytest.raises(InputError, match="prepare imagenet-source again"):
            factors.factors_digest(root)


def test_a_column_of_texts_that_all_differ_is_no_category(source, tmp_path, monkeypatch, capsys):
    """One column of file names, or one word among numbers, would be a probe of as many columns as there are images."""
    monkeypatch.setattr(factors, "MOST", 8)
    header, rows = lines(source)
    given = written(tmp_path / "list.csv", header, rows)
    assert main(["prepare", "imagenet", str(source), "--factors", str(given)]) == 0  # 16 numbers are a number
    rows[4][4] = "NA"
    written(given, header, rows)
    said = (
        "column light has 15 different values, and 'NA' is no number: leave unknown cells empty, and give a category 8"
    )
    with pytest.raises(InputError, match=said):
        main(["prepare", "imagenet", str(source), "--factors", str(given)])
    root = DataRoot.load(tmp_path / "results" / "data" / "imagenet-source")
    header, *stored = factors._rows(factors.factors_file(root, "val"), root.name)
    monkeypatch.setattr(factors, "MOST", 3)
    text = "".join(",".join(row) + "\n" for row in [header, *([*row[:4], "nan", *row[5:]] for row in stored)])
    factors.factors_file(root, "val").write_bytes(gzip.compress(text.encode()))
    with pytest.raises(InputError, match=r"the factors of imagenet-source: column light has .* and 'nan' is no number"):
        TASKS["factors"].check(root, "smoke")


def test_the_lists_are_read_once_for_their_digest_until_they_change(source, tmp_path, monkeypatch, capsys):
    given = written(tmp_path / "list.csv", *lines(source))
    assert main(["prepare", "imagenet", str(source), "--factors", str(given)]) == 0
    root, read = DataRoot.load(capsys.readouterr().out.strip()), []
    rows = factors._rows
    monkeypatch.setattr(factors, "_rows", lambda path, name: read.append(path) or rows(path, name))
    before = factors.factors_digest(root)
    assert factors.factors_digest(DataRoot.load(root.path)) == before and len(read) == 2
    stored = factors.factors_file(root, "val")
    stored.write_bytes(gzip.compress(gzip.decompress(stored.read_bytes()).replace(b"w0", b"w1"), mtime=0))
    assert factors.factors_digest(root) != before and len(read) == 4


def test_a_position_with_few_places_is_a_category_of_both_coordinates():
    found = factors.factor("position", [["0", "0", "1", "1"], ["0", "1", "0", "1"]])
    assert found.kind == "category" and found.names == ("0, 0", "0, 1", "1, 0", "1, 1")
    assert found.values.tolist() == [0, 1, 2, 3]


def test_a_number_with_few_values_is_a_category():
    found = factors.factor("count", [[str(n % 5) for n in range(40)]])
    assert found.kind == "category" and found.names == ("0", "1", "2", "3", "4")
    assert factors.factor("count", [[str(n) for n in range(40)]]).kind == "number"
    assert factors.factor("count", [["nan", *map(str, range(40))]]).kind == "category"
