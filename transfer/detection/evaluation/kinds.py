"""The kind of every false positive, and the object that every true one found, from kept matches.

Kinds and thresholds are TIDE's (Bolya et al. 2020, arXiv 2008.08115, section 2.2; the order in which they are tried is
dbolya/tide:tidecv/quantify.py's), by the highest IoU with an object of the detection's class and of another class:

- location: with its class at least 0.1 and below 0.5;
- class: with another class at least 0.5;
- duplicate: with its class at least 0.5, but the object was found by a detection of higher score;
- background: at most 0.1 with every object;
- class and location: the rest ("both" of TIDE), with another class between 0.1 and 0.5.

Hoiem et al. 2012 ("Diagnosing error in object detectors") count duplicates as location, and both kinds of class errors
as confusion. VOC's evaluator asks for more than 0.5 where COCO's asks for 0.5. Objects that do not count (crowds,
difficult ones) make no kind.
"""

from __future__ import annotations

import numpy as np

from transfer.detection.evaluation.matches import FALSE, TRUE, Matches
from transfer.detection.evaluation.pairs import Overlap, pairs

KINDS = ("duplicate", "location", "class", "class and location", "background")
DUPLICATE, LOCATION, CLASS, BOTH, BACKGROUND = range(5)
NONE = -1
FOUND, NOTHING = 0.5, 0.1  # IoU from which an object is found, and up to which a detection is on nothing
CHUNK = 2**16  # detections whose pairs are held at once


def kinds(matches: Matches, overlap: Overlap) -> tuple[np.ndarray, np.ndarray]:
    """((N,) kind of each false detection at IoU 0.5, NONE of others; (N,) the object meant, or NONE).

    The object meant is the one of highest IoU that makes the kind. ValueError where the first threshold is not 0.5.
    """
    _check(matches)
    kind, meant = np.full((2, len(matches.score)), NONE, dtype=np.int32)
    objects = np.flatnonzero(matches.object_counts[:, 0])
    wrong = np.flatnonzero(matches.outcome[0, :, 0] == FALSE)
    for start in range(0, len(wrong), CHUNK):
        some = wrong[start : start + CHUNK]
        row, column = pairs(matches.image[some], matches.object_image[objects])
        column = objects[column]
        values = np.nan_to_num(overlap(some[row], column))  # an inverted box has 0/0
        own = matches.object_category[column] == matches.category[some[row]]
        (same, same_object), (other, other_object) = (
            _highest(len(some), row[chosen], column[chosen], values[chosen]) for chosen in (own, ~own)
        )
        kind[some] = _kind(same, other, matches.rule)
        on_own = (kind[some] == LOCATION) | (kind[some] == DUPLICATE)
        nothing = kind[some] == BACKGROUND
        meant[some] = np.where(nothing, NONE, np.where(on_own, same_object, other_object))
    return kind, meant


def _check(matches: Matches) -> None:
    if matches.thresholds[0] != FOUND:
        raise ValueError(f"the first threshold is {matches.thresholds[0]}, not {FOUND}")


def _kind(same: np.ndarray, other: np.ndarray, rule: str) -> np.ndarray:
    """(N,) kinds by the highest IoU with the same class and with another, 0 where there is no object."""
    same_found, other_found = (value >= FOUND if rule == "coco" else value > FOUND for value in (same, other))
    tried = [(same >= NOTHING) & ~same_found, other_found, same_found, np.maximum(same, other) <= NOTHING]
    return np.asarray(np.select(tried, [LOCATION, CLASS, DUPLICATE, BACKGROUND], BOTH))


def _highest(count: int, row: np.ndarray, column: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """((count,) the highest value of each row, 0 where it has none; (count,) its first column, NONE)."""
    highest, at = np.zeros(count), np.full(count, NONE, dtype=np.int64)
    if len(row):
        order = np.lexsort((-value, row))  # stable: the first column of equal values
        first = order[np.append(True, row[order][1:] != row[order][:-1])]
        highest[row[first]], at[row[first]] = value[first], column[first]
    return highest, at


def finders(matches: Matches, overlap: Overlap) -> np.ndarray:
    """(M,) the true detection that found each object at IoU 0.5, NONE where none did.

    As the evaluators match: by descending score, each detection has the object of its class that it overlaps most; of
    COCO, among those still free, and of equal overlaps the last. ValueError as of ``kinds``.
    """
    _check(matches)
    objects = np.flatnonzero(matches.object_counts[:, 0])
    true = np.flatnonzero(matches.outcome[0, :, 0] == TRUE)
    true = true[np.argsort(-matches.score[true], kind="stable")]
    classes = len(matches.classes)
    row, column = pairs(
        matches.image[true].astype(np.int64) * classes + matches.category[true],
        matches.object_image[objects].astype(np.int64) * classes + matches.object_category[objects],
    )
    column = objects[column]
    values = np.nan_to_num(overlap(true[row], column))
    ties = -column if matches.rule == "coco" else column
    order = np.lexsort((ties, -values, row))
    found = np.full(len(matches.object_image), NONE, dtype=np.int64)
    done = NONE
    for one, at in zip(row[order].tolist(), column[order].tolist(), strict=True):
        if one != done and found[at] == NONE:
            found[at], done = true[one], one
    return found
