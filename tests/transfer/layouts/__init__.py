"""Checkpoint files as each project writes them, built from the layouts that its code publishes.

Independent of transfer's families, which must not be imported here: two descriptions of a layout that agree are a test.
Key names, wrappers, prefixes, ranks and types are those of the project; what is no backbone holds zeros that take no
space. ``SAMPLES[name](first, second)`` is one file whose published network is ``first``; ``second`` is the other one.
Both are backbones under torchvision's names without fc. The docstring of each says which code it was written from.
"""

from tests.transfer.layouts import contrastive, facebook, haiku, libraries, lightning, parts
from tests.transfer.layouts.parts import SAMPLES, Sample

__all__ = ["SAMPLES", "Sample", "contrastive", "facebook", "haiku", "libraries", "lightning", "parts"]
