"""Draw the few labelled images of a low-label protocol, and the part of them that a search holds out, by a seed.

    python -c "from benchmarks.data.subsets import draw_percent as d; print(d({1: [0], 2: [0, 1], 3: [1]}, 50, 0))"

Pure functions of the images' objects: nothing here reads a file, except ``read_split``. Every choice compares sha256
digests of (seed, purpose, image), so that a draw depends neither on the order of the images nor on a library's random
numbers, and holds on every machine. Draws of one seed are nested: 1 % is part of 2 %, 1 shot of 5. Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pretrain.common.errors import InputError

Image = TypeVar("Image", int, str)
HELD_PERCENT = 10  # of the training images, which a search holds out
LEAST_HELD = 10  # images: fewer give an AP of chance alone
LEAST_SEARCHED = 3 * LEAST_HELD  # training images that a search needs


@dataclass(frozen=True, kw_only=True)
class Draw:
    """The ids drawn, ascending, and notes on classes that have less than was asked for."""

    images: tuple[Any, ...]
    notes: tuple[str, ...] = ()


def draw_percent(images: Mapping[Image, Sequence[int]], percent: float, seed: int, purpose: str = "draw") -> Draw:
    """``percent`` of ``images`` (id → class of each object), rounded, at least one, stratified by the rarest class.

    The images whose rarest class is the same make a stratum; each has its share of the draw, up to one image. The
    strata are shuffled and interleaved: image j of n has the key (j + u) / n with u in [0, 1) of its stratum, and the
    draw is the images with the smallest keys. A larger percentage continues the same list.
    """
    times = Counter(kind for kinds in images.values() for kind in set(kinds))
    strata: dict[int, list[Image]] = {}
    for image, kinds in images.items():
        strata.setdefault(min(set(kinds), key=lambda kind: (times[kind], kind), default=-1), []).append(image)
    keys: list[tuple[float, int, Image]] = []
    for kind, members in strata.items():
        shift = _uniform(seed, purpose, "stratum", kind)
        members.sort(key=lambda image: (_uniform(seed, purpose, "image", image), image))
        keys += [((place + shift) / len(members), kind, image) for place, image in enumerate(members)]
    count = max(1, round(percent / 100 * len(images)))
    return Draw(images=tuple(sorted(image for _, _, image in sorted(keys)[:count])))


def draw_shots(images: Mapping[Image, Sequence[int]], shots: int, seed: int, classes: Sequence[str]) -> Draw:
    """For each of ``classes``, images in an order of the seed until they show ``shots`` of its objects; their union.

    Shots are objects, not images, as in few-shot detection (ucbdrive/few-shot-object-detection:datasets/
    prepare_voc_few_shot.py). That project then removes all other objects of the chosen images; here an image keeps all
    its labels, as an annotator gives them, so that a class has ``shots`` objects or more.
    """
    shown: dict[int, list[Image]] = {}
    for image, kinds in images.items():
        for kind in set(kinds):
            shown.setdefault(kind, []).append(image)
    chosen: set[Image] = set()
    notes = []
    for kind, name in enumerate(classes):
        order = sorted(shown.get(kind, ()), key=lambda image: (_uniform(seed, "shots", kind, image), image))
        found = 0
        for image in order:
            if found >= shots:
                break
            chosen.add(image)
            found += list(images[image]).count(kind)
        if found < shots:
            notes.append(f"class {name} has {found} training objects, fewer than {shots} shots")
    return Draw(images=tuple(sorted(chosen)), notes=tuple(notes))


def hold_out(images: Mapping[Image, Sequence[int]], seed: int) -> tuple[tuple[Image, ...], tuple[Image, ...]]:
    """(trained on, held out): HELD_PERCENT of the training ``images``, at least LEAST_HELD, stratified as a draw.

    InputError for fewer than LEAST_SEARCHED images.
    """
    if len(images) < LEAST_SEARCHED:
        raise InputError(
            f"a search holds out {LEAST_HELD} training images or more and needs {LEAST_SEARCHED}, but there are "
            f"{len(images)}: leave --search out, or take a protocol with more images"
        )
    percent = max(HELD_PERCENT, 100 * LEAST_HELD / len(images))
    held = draw_percent(images, percent, seed, "held out").images
    return tuple(sorted(set(images) - set(held))), held


def read_split(
    path: Path, images: Collection[Image], names: Mapping[Any, Image], percent: float | None, seed: int
) -> Draw:
    """The draw of a published file. ``names`` maps its words for all training images to their ids; ``images`` are those
    with an object, which can be trained on.

    Formats: facebookresearch/unbiased-teacher:dataseed/COCO_supervision.txt, {percent: {seed: [places]}}, whose numbers
    are places in ``images`` in ascending order, not ids (ubteacher/data/build.py); a COCO annotation file, {"images":
    [{"id": …}]}, as STAC's instances_train2017.1@10.json; a plain list of ids. The last two hold for every seed.
    InputError for a file that is none of these, or that does not fit the data.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and isinstance(content.get("images"), list):
            named = [one["id"] for one in content["images"]]
        elif isinstance(content, dict):
            named = _places(path, content, sorted(images), percent, seed)
        elif isinstance(content, list):
            named = content
        else:
            raise TypeError("neither a list nor an object")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is no list of image ids ({' '.join(str(error).split())[:100]})") from None
    if strange := [one for one in named if not isinstance(one, int | str) or one not in names]:
        raise InputError(f"{path}: image {strange[0]!r:.60} is not in the training set")
    ids = {names[one] for one in named}
    used = ids & set(images)
    if not used:
        raise InputError(f"{path}: none of its {len(ids)} images has an object to train on")
    left = len(ids) - len(used)
    notes = (f"{left} of the split's {len(ids)} images have no object and are not trained on",) if left else ()
    return Draw(images=tuple(sorted(used)), notes=notes)


def _places(path: Path, content: dict[str, Any], order: list[Any], percent: float | None, seed: int) -> list[Any]:
    """The ids at the places that Unbiased Teacher's file has for ``percent`` and ``seed``."""
    if percent is None:
        raise InputError(f"{path} holds draws by percent, and this protocol draws by shots: give a list of image ids")
    draws = next((value for key, value in content.items() if float(key) == percent), None)
    if draws is None:
        raise InputError(f"{path} has no draw of {percent:g} %: it has {', '.join(content)}")
    if str(seed) not in draws:
        raise InputError(f"{path} has no draw of seed {seed} for {percent:g} %: it has {', '.join(draws)}")
    places = draws[str(seed)]
    expected = int(percent / 100 * len(order))
    if len(set(places)) != expected or any(not 0 <= place < len(order) for place in places):
        raise InputError(
            f"{path}: {percent:g} % of these data are {expected} of {len(order)} images, and the file has "
            f"{len(set(places))}: it is of other data"
        )
    return [order[place] for place in places]


def ids_digest(ids: Collection[Any]) -> str:
    """Sha256 hex of the sorted ids, one per line: equal for equal subsets."""
    return hashlib.sha256("".join(f"{one}\n" for one in sorted(ids)).encode()).hexdigest()


def _uniform(*words: object) -> float:
    """A number in [0, 1) that is a function of the words alone."""
    text = "\0".join(map(str, words)).encode(errors="surrogateescape")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") / 2**64
