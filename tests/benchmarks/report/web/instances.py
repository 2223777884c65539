"""A detector's output for an image."""

import torch
from detectron2.structures import Boxes, Instances


def instances_of(image, boxes, classes, scores):
    found = Instances((image["height"], image["width"]))
    found.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float))
    found.scores, found.pred_classes = torch.tensor(scores), torch.tensor(classes)
    return found
