"""DINO's training checkpoints. DINO evaluates the teacher; dino_resnet50_pretrain.pth is its bare backbone."""

from __future__ import annotations

from transfer.checkpoints.families.base import HEAD, PUBLISHED_CODE
from transfer.checkpoints.families.layout import Layout

FAMILY = Layout(
    name="dino",
    title="DINO, its ResNets",
    known_from=f"facebookresearch/dino:main_dino.py, utils.py, hubconf.py; {PUBLISHED_CODE}",
    networks={"teacher": "teacher/backbone.", "student": "student/backbone."},
    drop={"teacher/head.": HEAD, "student/head.": HEAD},
).family()
