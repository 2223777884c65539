"""PASCAL VOC's AP as detectron2 computes it, but averaged only over the classes with an object in the test set.

Source: detectron2/evaluation/pascal_voc_evaluation.py, whose computation for each class is used unchanged.
"""

from __future__ import annotations

import json
from pathlib import Path

from detectron2.data import MetadataCatalog
from detectron2.evaluation import PascalVOCDetectionEvaluator
from detectron2.evaluation.pascal_voc_evaluation import parse_rec


class VOCEvaluator(PascalVOCDetectionEvaluator):
    """detectron2's evaluator without the classes that have no test object; difficult objects do not count.

    detectron2 gives such a class AP 0, so that a perfect detector does not reach 100; COCO's evaluator leaves it out.
    Where every class has a test object the results are detectron2's.
    """

    _class_names: list[str]
    _predictions: dict[int, list[str]]

    def __init__(self, dataset_name: str) -> None:
        """``dataset_name`` needs dirname, split, year and thing_classes in its metadata, as detectron2 requires."""
        super().__init__(dataset_name)
        images = Path(self._image_set_path).read_text(encoding="utf-8").split()
        objects = [one for image in images for one in parse_rec(self._anno_file_template.format(image))]
        names = {one["name"] for one in objects if not one["difficult"]}
        self.tested = [number for number, name in enumerate(self._class_names) if name in names]
        """Numbers of the classes that count, ascending."""
        self._class_names = [self._class_names[number] for number in self.tested]

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """{"bbox": {"AP", "AP50", "AP75"}} in percent, −1 (undefined, as COCO writes it) where no class is tested.

        None on ranks other than 0.
        """
        if not self.tested:
            return {"bbox": {"AP": -1.0, "AP50": -1.0, "AP75": -1.0}}
        given = self._predictions
        # detectron2 numbers the classes by their place in the list of names, which is shortened here.
        self._predictions = {place: given[number] for place, number in enumerate(self.tested) if number in given}
        try:
            return super().evaluate()
        finally:
            self._predictions = given


def classes_tested(dataset_name: str) -> int:
    """Number of classes with a test object that counts: one that is not difficult (VOC) or not a crowd (COCO)."""
    meta = MetadataCatalog.get(dataset_name)
    if meta.evaluator_type == "pascal_voc":
        return len(VOCEvaluator(dataset_name).tested)
    stored = json.loads(Path(meta.json_file).read_text(encoding="utf-8"))
    return len({one["category_id"] for one in stored["annotations"] if not one.get("iscrowd")})
