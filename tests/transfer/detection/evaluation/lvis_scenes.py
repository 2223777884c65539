"""Random objects and detections in LVIS' format: federated categories, rare to frequent, with ties."""

import numpy as np
from pycocotools import mask as rle

from tests.transfer.detection.evaluation.scenes import SIDE, blob, box_of
from transfer.detection.evaluation.store import Detections

CATEGORIES = (1, 2, 5, 7, 11, 12, 30)  # ids; the last is annotated nowhere
FREQUENCIES = "rrccfff"


def truth(seed, images=20, *, empty=0.2, negatives=0.4, unfinished=0.3):
    """LVIS' content: each image has categories that it verifiably lacks, and some that are not annotated throughout."""
    rng, annotations, about = np.random.default_rng(seed), [], []
    for image in range(1, images + 1):
        shown = set()
        for _ in range(0 if rng.random() < empty else rng.integers(1, 9)):
            box, kind = box_of(rng), int(rng.choice(CATEGORIES[:-1]))
            shown.add(kind)
            x, y, width, height = box
            code = rle.encode(np.asfortranarray(blob(rng, box)))
            outline = [[x, y, x + width, y, x + width, y + height, x, y + height]]
            annotations.append({
                "id": len(annotations) + 1, "image_id": image, "category_id": kind, "bbox": box,
                "area": float(rng.choice([1.0, 0.7])) * width * height,
                "segmentation": outline if rng.random() < 0.7
                else {"size": code["size"], "counts": code["counts"].decode()},
            })  # fmt: skip
        absent = [kind for kind in CATEGORIES if kind not in shown]
        about.append({
            "id": image, "height": SIDE, "width": SIDE,
            "coco_url": f"http://images.cocodataset.org/val2017/{image:012d}.jpg",
            "neg_category_ids": [kind for kind in absent if rng.random() < negatives],
            "not_exhaustive_category_ids": [kind for kind in sorted(shown) if rng.random() < unfinished],
        })  # fmt: skip
    categories = [
        {"id": kind, "name": f"thing {kind}", "frequency": frequency}
        for kind, frequency in zip(CATEGORIES, FREQUENCIES, strict=True)
    ]
    return {"info": {}, "images": about, "annotations": annotations, "categories": categories}


def detections(seed, content, *, decimals=1, invented=12):
    """Objects found some pixels off, several times, as another class; and inventions. Most scores occur many times."""
    rng, rows, masks = np.random.default_rng(seed + 1000), [], []
    for place, image in enumerate(content["images"]):
        found = []
        for one in content["annotations"]:
            for _ in range(rng.integers(0, 4) if one["image_id"] == image["id"] else 0):
                known = CATEGORIES.index(one["category_id"])
                kind = known if rng.random() < 0.8 else rng.integers(len(CATEGORIES))
                found.append((np.array(one["bbox"]) + rng.normal(0, 2.5, 4), kind))
        found += [(np.array(box_of(rng)), rng.integers(len(CATEGORIES))) for _ in range(rng.integers(0, invented + 1))]
        rng.shuffle(found)
        for (x, y, width, height), kind in found if rng.random() > 0.15 else []:
            box = np.clip([x, y, x + max(width, 1), y + max(height, 1)], 0, SIDE)
            rows.append((place, kind, *box))
            left, top, right, bottom = box
            masks.append(rle.encode(np.asfortranarray(blob(rng, [left, top, right - left, bottom - top])))["counts"])
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    return Detections(
        ids=np.array([one["id"] for one in content["images"]]),
        sizes=np.full((len(content["images"]), 2), SIDE, np.int32),
        image=table[:, 0].astype(np.int32),
        category=table[:, 1].astype(np.int32),
        score=np.round(rng.random(len(table)), decimals).astype(np.float32),
        box=table[:, 2:].astype(np.float32),
        masks=masks,
    )
