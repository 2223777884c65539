"""Split images that have no split: by a seed, with every class in both halves and in similar proportions.

    python -c "from benchmarks.data.split import split_seeded as s; print(s({1: ['cat'], 2: ['cat']}, 0.2, 0))"

One pass deals the images out, those of the rarest classes first, each to the half that lacks more of its classes
(in the spirit of Sechidis et al. 2011, "On the Stratification of Multi-Label Data"). If that leaves a class out of a
half, or the halves off their sizes, an integer program finds the fewest images that must change halves.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks.data.checks import same_pictures

Item = TypeVar("Item", int, str)
MOVABLE = 500  # images in the integer program: more could take it minutes
NODES = 1000  # of its search: a time limit would not give the same split on every machine


def split_seeded(
    classes: Mapping[Item, Collection[str]], val_fraction: float, seed: int
) -> tuple[list[Item], list[Item]]:
    """(train, val), each sorted, of the images that are the keys of ``classes``; the values are the classes they show.

    As many as possible of the classes on two or more images are in both halves. Among such splits, val's size is the
    nearest to ``val_fraction`` of the images, rounded, and at least one image is in each half if there are two. Both
    are exact for up to MOVABLE images (and NODES of search); of more images MOVABLE can change halves, those of absent
    classes first. The order of the mapping does not matter, and the same seed gives the same split.
    """
    order = sorted(classes)
    random.Random(seed).shuffle(order)
    wanted = min(max(1, round(len(order) * val_fraction)), len(order) - 1)
    times = Counter(kind for item in order for kind in sorted(set(classes[item])))

    def rarest(item: Item) -> tuple[int, bool]:
        # Classes on one image constrain nothing; images without a class come last and make up the sizes.
        several = (times[kind] for kind in classes[item] if times[kind] > 1)
        return min(several, default=len(classes) + 1), not classes[item]

    order.sort(key=rarest)
    shown = [sorted(set(classes[item])) for item in order]
    in_val = _deal(shown, times, wanted)
    held = Counter(kind for kinds, val in zip(shown, in_val, strict=True) if val for kind in kinds)
    absent = {kind for kind, count in times.items() if count > 1 and held[kind] in (0, count)}
    if absent or sum(in_val) != wanted:
        first = sorted(range(len(shown)), key=lambda image: absent.isdisjoint(shown[image]))
        in_val = _mend(shown, times, wanted, in_val, movable=first[:MOVABLE])
    train, val = (sorted(item for item, there in zip(order, in_val, strict=True) if there == half) for half in (0, 1))
    return train, val


def split_files(
    classes: Mapping[Item, Collection[str]], files: Mapping[Item, Path], val_fraction: float, seed: int
) -> tuple[list[Item], list[Item]]:
    """As `split_seeded`, with images whose files have the same bytes in the same half. ``files`` has every key.

    If more images are alike than val is to have, they are dealt out as if they differed.
    """
    first = same_pictures(files.values())
    groups: dict[Path, list[Item]] = {}
    for item in sorted(classes):
        groups.setdefault(first[files[item]], []).append(item)
    if max(map(len, groups.values()), default=0) > max(1, round(len(classes) * val_fraction)):
        return split_seeded(classes, val_fraction, seed)
    shown = {items[0]: {kind for item in items for kind in classes[item]} for items in groups.values()}
    of = {items[0]: items for items in groups.values()}
    train, val = (sorted(item for one in half for item in of[one]) for half in split_seeded(shown, val_fraction, seed))
    return train, val


def _deal(shown: Sequence[Sequence[str]], times: Mapping[str, int], wanted: int) -> list[int]:
    """1 for each image that goes to val, 0 for train. ``times`` is the number of images of each class.

    An image goes to the half where more classes would be absent without it, else with room, else that lacks more. A
    class on one image goes to train if there is room: tested but not trained on, it scores 0 for every checkpoint.
    """
    share = (len(shown) - wanted, wanted)
    got: tuple[Counter[str | None], Counter[str | None]] = (Counter(), Counter())
    seen: Counter[str | None] = Counter()  # None stands for a class that is on every image

    def claim(kinds: Sequence[str], half: int) -> tuple[int, bool, bool, int]:
        absent = sum(seen[kind] == times[kind] > 1 and not got[half][kind] for kind in kinds)
        room = got[half][None] < share[half]
        alone = half == 0 and any(times[kind] == 1 for kind in kinds)
        # In units of 1 / images, so that ties are exact.
        owed = sum(share[half] * seen[kind] - len(shown) * got[half][kind] for kind in (*kinds, None))
        return absent, room, alone, owed

    in_val = []
    for kinds in shown:
        seen.update((*kinds, None))
        half = int(claim(kinds, 1) > claim(kinds, 0))
        got[half].update((*kinds, None))
        in_val.append(half)
    return in_val


def _mend(
    shown: Sequence[Sequence[str]], times: Mapping[str, int], wanted: int, in_val: list[int], movable: list[int]
) -> list[int]:
    """``in_val`` with the fewest classes absent from a half, then the nearest size, then the fewest changes.

    One 0/1 variable per image; one row per class, by which val has at least one of its images and at most all but one;
    a last row by which val has ``wanted`` images. Each row has two slack variables, for too few and too many. Only the
    images ``movable`` may change.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp  # takes half a second and is seldom needed
    from scipy.sparse import csr_array, eye_array, hstack

    images = len(shown)
    row_of = {kind: row for row, kind in enumerate(kind for kind, count in times.items() if count > 1)}
    rows = len(row_of) + 1
    ones = [(row_of[kind], image) for image, kinds in enumerate(shown) for kind in kinds if kind in row_of]
    ones += [(rows - 1, image) for image in range(images)]
    counts = csr_array((np.ones(len(ones)), tuple(np.array(ones).T)), shape=(rows, images))
    low, high = np.ones(rows), counts.sum(axis=1) - 1
    low[-1] = high[-1] = wanted
    constraints = [LinearConstraint(hstack([counts, eye_array(rows), -eye_array(rows)]), low, high)]

    best, free = np.array(in_val), np.zeros(images, dtype=bool)
    free[movable] = True
    no_image, no_slack, size = np.zeros(images), np.zeros(2 * rows), np.arange(rows) == rows - 1
    bounds = Bounds(np.r_[best & ~free, no_slack], np.r_[best | free, no_slack + images])
    for cost in (np.r_[no_image, ~size, ~size], np.r_[no_image, size, size], np.r_[1 - 2 * best, no_slack]):
        options = {"mip_rel_gap": 0, "node_limit": NODES}
        answer = milp(cost, integrality=np.ones_like(cost), bounds=bounds, constraints=constraints, options=options)
        if answer.x is None:
            break
        best = answer.x[:images].round().astype(int)
        constraints.append(LinearConstraint(cost[None], ub=answer.fun + 0.5))
    return best.tolist()
