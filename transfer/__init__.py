"""Checkpoints of any origin into detectron2's format, with proof, and detectron2 training on them."""
