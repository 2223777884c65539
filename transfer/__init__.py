"""Checkpoints into detectron2, with proof, and the detection protocols that use them. See ``python -m transfer --help``."""
