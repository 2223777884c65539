"""An online kNN probe: do the features of images of one class lie together? On the training folder's labels only.

Run: ``python -m pretrain PRESET --data FOLDER --probe-every 10``. A tenth of the images, chosen by a hash of their
names, asks the others. They are held out of the vote, not of pretraining, and are no test images: the probe shows a
run's progress, and its accuracies compare runs on the same data and nothing else.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from pretrain.augment.crops import CropBackend, central_box, cut
from pretrain.augment.views import normalize
from pretrain.common.errors import InputError
from pretrain.common.knn import KnnConfig, knn_predict
from pretrain.data import ImageList, decode

IMAGES = 5000  # at most, asking and asked together
BATCH = 64
VOTE = KnnConfig(k=20)


def split(images: ImageList) -> tuple[list[int], list[int]]:
    """Indices of the images that vote and of those that ask, one in ten, by the hash of their paths alone."""
    order = sorted(range(len(images)), key=lambda i: hashlib.sha256(images.paths[i].encode()).digest())[:IMAGES]
    asking = max(1, len(order) // 10)
    return sorted(order[asking:]), sorted(order[:asking])


def knn_top1(votes: Tensor, labels: Tensor, asking: Tensor, truth: Tensor) -> float:
    """Share of the rows of ``asking`` (M, D) whose weighted vote of the nearest rows of ``votes`` (N, D) is right."""
    predicted = knn_predict(votes, labels, asking, int(labels.max()) + 1, VOTE)
    return (predicted == truth).double().mean().item()


@torch.no_grad()
def probe(backbone: nn.Module, images: ImageList, size: int, crop_backend: CropBackend) -> float:
    """Top-1 share in [0, 1] of the kNN vote on eval-mode features of central crops; leaves the backbone as it was.

    Draws no random numbers. Unreadable images are left out. InputError in a flat folder, which has no labels.
    """
    if images.labels is None:
        raise InputError(f"the kNN probe needs labels, but {images.root} is flat: leave out --probe-every")
    training = backbone.training
    backbone.eval()
    found = [_features(backbone, images, images.labels, part, size, crop_backend) for part in split(images)]
    backbone.train(training)
    (votes, labels), (asking, truth) = found
    return knn_top1(votes, labels, asking, truth)


def _features(
    backbone: nn.Module,
    images: ImageList,
    labels: tuple[int, ...],
    part: list[int],
    size: int,
    crop_backend: CropBackend,
) -> tuple[Tensor, Tensor]:
    """(features (n, D), labels (n,)) of the readable images of ``part``, on the backbone's device."""
    device = next(backbone.parameters()).device
    rows, kept = [], []
    for start in range(0, len(part), BATCH):
        crops = []
        for index in part[start : start + BATCH]:
            try:
                image = decode(images.root / images.paths[index])
            except InputError:
                continue  # the loader counts and names it
            crops += cut(image, [central_box(*image.size)], [size], crop_backend)
            kept.append(labels[index])
        if crops:
            pixels = torch.stack(crops).to(device)
            rows.append(backbone(normalize(pixels.float() / 255).contiguous(memory_format=torch.channels_last)).float())
    return torch.cat(rows), torch.tensor(kept, device=device)
