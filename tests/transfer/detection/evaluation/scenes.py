"""Random objects and detections in COCO's format, with all that is difficult about them."""

import contextlib
import json

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, Instances
from pycocotools import mask as rle

SIDE = 160
CATEGORIES = {0: 2, 1: 3, 2: 5, 3: 90, 4: 91}  # contiguous: COCO's
POINTS = 17  # keypoints


def box_of(rng):
    """Left, top, width, height: small, medium and large, some with sides of exactly 32 and 96 pixels."""
    size = rng.choice([8.0, 20.5, 32, 60, 96, 120], 2)
    return [*(rng.uniform(0, SIDE - size)).tolist(), *size.tolist()]


def blob(rng, box):
    """A mask of most pixels of a box."""
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    x, y, width, height = (round(value) for value in box)
    mask[y : y + height, x : x + width] = 1
    return mask & (rng.random(mask.shape) > 0.05)


def keypoints_of(rng, box):
    points = np.array(box[:2]) + rng.random((POINTS, 2)) * box[2:]
    return np.column_stack([points, rng.integers(0, 3, POINTS)])


def truth(seed, images=25, *, crowds=0.15, empty=0.2, classes=4):
    """COCO's content; the last of CATEGORIES and some images have no object; one in seven is a crowd."""
    rng, annotations = np.random.default_rng(seed), []
    for image in range(1, images + 1):
        for _ in range(0 if rng.random() < empty else rng.integers(1, 7)):
            box, crowd = box_of(rng), int(rng.random() < crowds)
            code = rle.encode(np.asfortranarray(blob(rng, box)))
            x, y, width, height = box
            outline = [[x, y, x + width, y, x + width, y + height, x, y + height]]
            points = keypoints_of(rng, box)
            seen = int((points[:, 2] > 0).sum() * (rng.random() < 0.8))
            annotations.append({
                "id": len(annotations) + 1, "image_id": image, "category_id": CATEGORIES[int(rng.integers(classes))],
                "bbox": box, "area": float(rng.choice([1.0, 0.7])) * width * height, "iscrowd": crowd,
                "segmentation": {"size": code["size"], "counts": code["counts"].decode()} if crowd else outline,
                "keypoints": points.ravel().tolist(), "num_keypoints": seen,
            })  # fmt: skip
    about = [{"id": one, "file_name": f"{one}.jpg", "height": SIDE, "width": SIDE} for one in range(1, images + 1)]
    categories = [{"id": number, "name": str(number)} for number in CATEGORIES.values()]
    return {"info": {}, "images": about, "annotations": annotations, "categories": categories}


def outputs(seed, content, *, decimals=1, invented=12, masks=True, keypoints=True):
    """(inputs, outputs) of a detector: objects found some pixels off, several times, as another class; and inventions.

    Scores have one decimal: most occur many times.
    """
    rng, found = np.random.default_rng(seed + 1000), []
    for image in content["images"]:
        rows = []
        own = [one for one in content["annotations"] if one["image_id"] == image["id"]]
        place = {number: contiguous for contiguous, number in CATEGORIES.items()}
        for one in own:
            for _ in range(rng.integers(0, 4)):
                moved = np.array(one["bbox"]) + rng.normal(0, 2.5, 4)
                kind = place[one["category_id"]] if rng.random() < 0.8 else rng.integers(len(CATEGORIES))
                near = np.array(one["keypoints"]).reshape(POINTS, 3) + rng.normal(0, [2.5, 2.5, 0], (POINTS, 3))
                rows.append((moved, kind, near))
        for _ in range(rng.integers(0, invented + 1)):
            box = box_of(rng)
            rows.append((np.array(box), rng.integers(len(CATEGORIES)), keypoints_of(rng, box)))
        if rng.random() < 0.15:
            rows = []
        boxes = np.clip(np.array([[x, y, x + w, y + h] for (x, y, w, h), *_ in rows]).reshape(-1, 4), 0, SIDE)
        boxes = np.hstack([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])])
        instances = Instances((SIDE, SIDE))
        instances.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float))
        instances.scores = torch.tensor(np.round(rng.random(len(rows)), decimals), dtype=torch.float)
        instances.pred_classes = torch.tensor([int(kind) for _, kind, _ in rows], dtype=torch.long)
        sizes = [[x, y, right - x, bottom - y] for x, y, right, bottom in boxes.tolist()]
        if masks:
            drawn = [blob(rng, box) for box in sizes]
            instances.pred_masks = torch.tensor(np.array(drawn).reshape(-1, SIDE, SIDE), dtype=torch.bool)
        if keypoints:
            points = np.array([near for *_, near in rows]).reshape(-1, POINTS, 3)
            instances.pred_keypoints = torch.tensor(points, dtype=torch.float)
        found.append({"instances": instances})
    inputs = [{"image_id": one["id"], "file_name": one["file_name"]} for one in content["images"]]
    return inputs, found


@contextlib.contextmanager
def registered(folder, content):
    """The name of a data set of these annotations."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "truth.json").write_text(json.dumps(content))
    ids = {number: contiguous for contiguous, number in CATEGORIES.items()}
    names = [f"class {number}" for number in CATEGORIES.values()]
    about = {"json_file": str(folder / "truth.json"), "thing_classes": names, "thing_dataset_id_to_contiguous_id": ids}
    MetadataCatalog.get(str(folder)).set(evaluator_type="coco", **about)
    yield str(folder)
    MetadataCatalog.remove(str(folder))
