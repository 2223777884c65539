"""ssl-transfer's sets in the formats that torchvision reads, tiny, and each prepared with its published split."""

import hashlib
import json
import pickle

import numpy as np
import pytest
import torchvision
from PIL import Image
from scipy.io import savemat

from benchmarks.arguments import TorchvisionName
from benchmarks.data import torchvision_sets
from benchmarks.data.prepare import main
from benchmarks.data.root import DataRoot
from benchmarks.data.torchvision_sets import SETS, drawn, held_out_part
from pretrain.common.errors import InputError


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (9, 8, 3), np.uint8)
    Image.fromarray(pixels).save(path, quality=95)


def write(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def aircraft(root):
    """Two variants, one with a slash; three splits of two images of each."""
    base = root / "fgvc-aircraft-2013b" / "data"
    write(base / "variants.txt", ["707-320", "F-16A/B"])
    expected, number = {}, 0
    for split in ("train", "val", "test"):
        lines = []
        for variant in ("707-320", "F-16A/B"):
            for _ in range(2):
                number += 1
                picture(base / "images" / f"{number:07d}.jpg", number)
                lines.append(f"{number:07d} {variant}")
        write(base / f"images_variant_{split}.txt", lines)
        expected[split] = [f"{line.split(' ', 1)[1].replace('/', '_')}/{line.split()[0]}.jpg" for line in lines]
    return expected


def dtd(root):
    """Partition 1, and a partition 2 that must not be read."""
    base, expected, number = root / "dtd" / "dtd", {}, 0
    for split in ("train", "val", "test"):
        lines = []
        for name in ("banded", "blotchy"):
            for _ in range(3):
                number += 1
                lines.append(f"{name}/{name}_{number:04d}.jpg")
                picture(base / "images" / lines[-1], number)
        expected[split] = lines
        write(base / "labels" / f"{split}1.txt", lines)
        write(base / "labels" / f"{split}2.txt", lines[:1])
    return expected


def flowers(root):
    """trnid is train, valid is val and tstid is test; labels count from 1."""
    base = root / "flowers-102"
    labels = np.array([1, 2] * 6)
    ids = {"trnid": [1, 2, 5, 6], "valid": [3, 4], "tstid": [7, 8, 9, 10, 11, 12]}
    for number in range(1, 13):
        picture(base / "jpg" / f"image_{number:05d}.jpg", number)
    savemat(base / "imagelabels.mat", {"labels": labels[None]})
    savemat(base / "setid.mat", {name: np.array(some)[None] for name, some in ids.items()})
    names = ["pink primrose", "hard-leaved pocket orchid"]
    of = {number: f"{names[(number - 1) % 2]}/image_{number:05d}.jpg" for number in range(1, 13)}
    return {
        split: [of[n] for n in ids[key]] for split, key in (("train", "trnid"), ("val", "valid"), ("test", "tstid"))
    }


def food(root):
    """The keys of the JSON files are not sorted, as in the real ones."""
    base, expected = root / "food-101", {}
    for split, count in (("train", 10), ("test", 2)):
        listed = {name: [f"{name}/{split}{number}" for number in range(count)] for name in ("waffles", "apple_pie")}
        (base / "meta").mkdir(parents=True, exist_ok=True)
        (base / "meta" / f"{split}.json").write_text(json.dumps(listed))
        for number, name in enumerate(name for names in listed.values() for name in names):
            picture(base / "images" / f"{name}.jpg", [number, count])
        expected[split] = [f"{name}.jpg" for key in sorted(listed) for name in listed[key]]
    return expected


def pets(root):
    base, expected = root / "oxford-iiit-pet", {}
    for split, count in (("trainval", 5), ("test", 2)):
        names = [
            (f"{name}_{split}{number}", label)
            for number in range(count)
            for label, name in ((1, "Abyssinian"), (2, "great_pyrenees"))
        ]
        write(base / "annotations" / f"{split}.txt", [f"{name} {label} 1 1" for name, label in names])
        for number, (name, _) in enumerate(names):
            picture(base / "images" / f"{name}.jpg", [number, count])
        folder = {1: "Abyssinian", 2: "Great Pyrenees"}
        expected[split] = [f"{folder[label]}/{name}.jpg" for name, label in names]
    return {"train": expected["trainval"], "test": expected["test"]}


def cars(root):
    base, names, expected = root / "stanford_cars", ["Acura RL Sedan 2012", "Ram C/V Cargo Van Minivan 2012"], {}
    (base / "devkit").mkdir(parents=True)
    savemat(base / "devkit" / "cars_meta.mat", {"class_names": np.array(names, dtype=object)[None]})
    places = {"train": base / "devkit" / "cars_train_annos.mat", "test": base / "cars_test_annos_withlabels.mat"}
    for split, count in (("train", 10), ("test", 4)):
        kinds = [("class", "u1"), ("fname", "O")]
        rows = np.array([(number % 2 + 1, f"{number:05d}.jpg") for number in range(count)], dtype=kinds)
        savemat(places[split], {"annotations": rows[None]})
        for number in range(count):
            picture(base / f"cars_{split}" / f"{number:05d}.jpg", [number, count])
        expected[split] = [f"{names[n % 2].replace('/', '_')}/{n:05d}.jpg" for n in range(count)]
    return expected


def sun(root):
    base, expected = root / "SUN397", {}
    write(base / "ClassName.txt", ["/a/abbey", "/c/church/indoor", "/c/church/outdoor"])
    for part, split, count in (("Training_01", "train", 5), ("Testing_01", "test", 2), ("Training_02", "no", 1)):
        lines = [
            f"/{kind[0]}/{kind}/sun_{split}{n}.jpg"
            for kind in ("church/indoor", "abbey", "church/outdoor")
            for n in range(count)
        ]
        write(base / f"{part}.txt", lines)
        for number, line in enumerate(lines):
            picture(base / line[1:], [number, count])
        expected[split] = [line[3:].replace("church/", "church_") for line in lines]
    return {"train": expected["train"], "test": expected["test"]}


def caltech(root, count=40):
    """Three classes of 40 images; expected is the authors' draw, written as they do."""
    base, ids, labels = root / "caltech101" / "101_ObjectCategories", [], []
    for label, name in enumerate(("BACKGROUND_Google", "Faces", "accordion")):
        for number in range(1, count + 1):
            ids.append(f"{name}/image_{number:04d}.jpg")
            labels.append(label)
            picture(base / ids[-1], [label, number])
    generator, train = np.random.RandomState(0), []
    for label in range(3):
        there = [number for number, one in enumerate(labels) if one == label]
        train.extend(np.sort(generator.choice(there, 30)))
    train = list(dict.fromkeys(train))
    assert 45 < len(train) < 90  # drawn with replacement
    return {"train": [ids[n] for n in train], "test": [one for n, one in enumerate(ids) if n not in train]}


def cifar(root, folder="cifar-10-batches-py", key="labels", batches=5):
    """Pickles of CIFAR-10; 4 images in each batch, classes in turn."""
    base, names = root / folder, ["cat", "dog"]
    base.mkdir(parents=True)
    expected = {"train": [], "test": []}
    several = [f"data_batch_{number}" for number in range(1, 6)] if batches == 5 else ["train"]
    for batch in [*several, "test_batch" if batches == 5 else "test"]:
        pixels = np.random.default_rng(len(batch) + ord(batch[-1])).integers(0, 255, (4, 3072), np.uint8)
        (base / batch).write_bytes(pickle.dumps({"data": pixels, key: [1, 0, 1, 0]}))
        split = "test" if batch.startswith("test") else "train"
        expected[split] += [names[label] for label in (1, 0, 1, 0)]
    meta = ("batches.meta", "label_names") if batches == 5 else ("meta", "fine_label_names")
    (base / meta[0]).write_bytes(pickle.dumps({meta[1]: names}))
    return {split: [f"{name}/{n:05d}.png" for n, name in enumerate(some)] for split, some in expected.items()}


def cifar100(root):
    return cifar(root, "cifar-100-python", "fine_labels", batches=1)


MADE = {
    "FGVCAircraft": aircraft,
    "Caltech101": caltech,
    "StanfordCars": cars,
    "CIFAR10": cifar,
    "CIFAR100": cifar100,
    "DTD": dtd,
    "Flowers102": flowers,
    "Food101": food,
    "OxfordIIITPet": pets,
    "SUN397": sun,
}


def prepare(capsys, *arguments):
    assert main(["torchvision", *map(str, arguments)]) == 0
    return DataRoot.load(capsys.readouterr().out.strip())


def without_digests(monkeypatch):
    """torchvision compares CIFAR's and Flowers' files with the sums of the real ones."""
    for module in ("cifar", "flowers102"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.check_integrity", lambda *_: True)


@pytest.mark.parametrize("name", MADE)
def test_each_set_has_its_published_split(name, tmp_path, monkeypatch, capsys):
    without_digests(monkeypatch)
    expected = MADE[name](tmp_path / "source")
    root = prepare(capsys, name, tmp_path / "source")
    section, folder = root.section("imagenet"), root.folder("imagenet")
    whole = expected["train"] + expected.get("val", [])
    for split, wanted in (("train", whole), ("val", expected["test"])):
        there = [path.relative_to(folder / split).as_posix() for path in (folder / split).glob("*/*")]
        assert sorted(there) == sorted(wanted) and section["counts"][split] == len(wanted)
        found = torchvision.datasets.ImageFolder(folder / split)
        assert found.classes == section["classes"] == sorted({one.split("/")[0] for one in wanted})
    if "val" in expected:
        held_out = expected["val"]
    else:
        generator, order = np.random.RandomState(0), list(range(len(whole)))
        generator.shuffle(order)
        held_out = [whole[number] for number in order[: int(0.2 * len(whole))]]
    assert (folder / section["held_out"]).read_text().split("\n")[:-1] == sorted(held_out)
    assert section["score"] == SETS[name].score and root.name == name.lower()
    assert section["validation"]["published numbers, which differ"]["classes"] == SETS[name].classes


@pytest.mark.parametrize("name", ["CIFAR10", "CIFAR100"])
def test_cifars_pictures_are_torchvisions_pixels(name, tmp_path, monkeypatch, capsys):
    without_digests(monkeypatch)
    MADE[name](tmp_path / "source")
    root = prepare(capsys, name, tmp_path / "source")
    for split in ("train", "val"):
        data = getattr(torchvision.datasets, name)(tmp_path / "source", train=split == "train")
        for number, (image, label) in enumerate(data):
            path = root.folder("imagenet") / split / data.classes[label] / f"{number:05d}.png"
            assert (np.asarray(Image.open(path)) == np.asarray(image)).all()


def test_a_set_is_linked_prepared_once_and_named_when_it_changes(tmp_path, capsys):
    dtd(tmp_path / "source")
    root = prepare(capsys, "DTD", tmp_path / "source" / "dtd", "--name", "textures")
    image = next((root.folder("imagenet") / "train" / "banded").iterdir())
    assert image.is_symlink() and root.name == "textures"
    before = (root.path / "data.json").stat().st_mtime_ns
    again = prepare(capsys, "DTD", tmp_path / "source", "--name", "textures")  # torchvision's root, or the set's folder
    assert (again.path / "data.json").stat().st_mtime_ns == before
    again.check_unchanged()
    write(tmp_path / "source" / "dtd" / "dtd" / "labels" / "val1.txt", ["banded/banded_0007.jpg"])
    with pytest.raises(InputError, match=r"prepare torchvision DTD .*/dtd --name textures` again"):
        again.check_unchanged()


def test_voc_is_laid_out_as_voc(tmp_path, capsys):
    for number, split in enumerate(["train", "val", "test"] * 4):
        base, stem = tmp_path / "source" / "VOCdevkit" / "VOC2007", f"{number:06d}"
        picture(base / "JPEGImages" / f"{stem}.jpg", number)
        box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox>"
        text = f"<annotation><object><name>cat</name>{box}</object></annotation>"
        write(base / "Annotations" / f"{stem}.xml", [text])
        for part in {split, "test" if split == "test" else "trainval"}:
            path = base / "ImageSets" / "Main" / f"{part}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text((path.read_text() if path.exists() else "") + f"{stem}\n")
    root = prepare(capsys, "VOC2007", tmp_path / "source")
    assert root.section("voc")["counts"]["train"]["images"] == 8 and root.name == "voc2007"


def half(root):
    dtd(root)
    (root / "dtd" / "dtd" / "labels" / "val1.txt").unlink()


def missing(root):
    dtd(root)
    (root / "dtd" / "dtd" / "images" / "banded" / "banded_0001.jpg").unlink()


def no_partition(root):
    sun(root)
    (root / "SUN397" / "Testing_01.txt").unlink()


def beyond(root):
    sun(root)
    with (root / "SUN397" / "Testing_01.txt").open("a") as stream:
        stream.write("/a/abbey/sun_gone.jpg\n")


REFUSED = {
    "nothing there": ("DTD", lambda root: root.mkdir(), "has no folder dtd/dtd: unpack DTD there.*--download"),
    "a list is missing": ("DTD", half, r"DTD cannot be read from .*val1\.txt.*unpack it there as dtd/dtd/, complete"),
    "an image is missing": ("DTD", missing, r"missing image: .*banded_0001\.jpg: unpack DTD again$"),
    "SUN397 without partitions": (
        "SUN397",
        no_partition,
        r"Testing_01\.txt is missing.*unpack https://.*Partitions\.zip",
    ),
    "SUN397 incomplete": ("SUN397", beyond, r"absent image of .*Testing_01\.txt: a/abbey/sun_gone\.jpg"),
    "CIFAR's sums": ("CIFAR10", cifar, "CIFAR10 cannot be read .*corrupted"),
    "no download": ("StanfordCars", lambda root: root.mkdir(), "cannot download StanfordCars .*unpack it yourself"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_sources_are_one_line_and_leave_nothing(case, tmp_path):
    name, make, message = REFUSED[case]
    make(tmp_path / "source")
    flags = ["--download"] if case == "no download" else []
    with pytest.raises(InputError, match=message) as caught:
        main(["torchvision", name, str(tmp_path / "source"), *flags])
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "data").glob("*"))


CALTECH_COUNTS = """
467 435 435 200 798 55 800 42 42 47 54 46 33 128 98 43 85 91 50 43 123 47 59 62 107 47 69 73 70 50 51 57 67 52 65 68 75
64 53 64 85 67 67 45 34 34 51 99 100 42 54 88 80 31 64 86 114 61 81 78 41 66 43 40 87 32 76 55 35 39 47 38 45 53 34 57
82 59 49 40 63 39 84 57 35 64 45 86 59 64 35 85 49 86 75 239 37 59 34 56 39 60
"""
"""Images of each class of Caltech101, from linusericsson/ssl-transfer:caltech101-splits, train and test together."""


def test_caltechs_draw_is_the_published_list():
    targets = np.repeat(np.arange(102), [int(count) for count in CALTECH_COUNTS.split()])
    found = drawn(targets.tolist())
    assert (len(targets), len(found)) == (9144, 2416) and len(held_out_part(len(found))) == 483
    # Of the numbers of caltech101-splits/train.txt's images (commit 416913f) among all, in its order.
    digest = hashlib.sha256(" ".join(map(str, found)).encode()).hexdigest()
    assert digest == "9445c6b2447b9e017c4ef48933e422db48eea46e7a07f0c4a14f727d7b861990"


def test_the_list_of_names_is_that_of_the_flags():
    assert tuple(SETS) == TorchvisionName.__args__ and len(SETS) == 11
    assert all(
        one.held_out == len(held_out_part(one.train)) or name in ("FGVCAircraft", "DTD", "Flowers102", "VOC2007")
        for name, one in SETS.items()
    )


@pytest.mark.parametrize("key", ["held_out", "score"])
def test_a_root_whose_record_was_damaged_is_refused(key, tmp_path, capsys):
    dtd(tmp_path / "source")
    root = prepare(capsys, "DTD", tmp_path / "source")
    stored = json.loads((root.path / "data.json").read_text())
    stored["imagenet"][key] = 3
    (root.path / "data.json").write_text(json.dumps(stored))
    with pytest.raises(InputError, match=r"data\.json cannot be read"):
        DataRoot.load(root.path)


def test_any_fault_of_torchvision_is_one_line(tmp_path, monkeypatch):
    def fault(*_, **__):
        raise ZeroDivisionError("so\nmuch")

    monkeypatch.setattr(torchvision_sets, "_listed", fault)
    with pytest.raises(InputError, match="ZeroDivisionError: so much"):
        torchvision_sets.read("DTD", tmp_path)
