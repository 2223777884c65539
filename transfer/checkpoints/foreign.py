"""Name a network that is not a ResNet, by the tensor names of its usual implementations.

Imports no torch. ``python -m transfer inspect FILE`` shows the answer.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping

Shapes = Mapping[str, tuple[int, ...]]

_ATTENTION = r"\.(?:qkv|q_proj|query|in_proj_weight|in_proj\.weight|wqkv)\b"
# The first entry whose patterns all match some key. Patterns are searched, so that key prefixes do not matter.
_NETWORKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("a Swin Transformer V2", (r"\.cpb_mlp\.|continuous_position_bias_mlp", r"downsample|reduction")),
    ("a Swin Transformer", (r"relative_position_bias_table", r"downsample\.|\.reduction\.")),
    ("a ConvNeXt V2", (r"dwconv|conv_dw|depthwise_conv", r"\.grn\.")),
    ("a ConvNeXt", (r"(?:dwconv|conv_dw|depthwise_conv)\.weight", r"\.(?:gamma|layer_scale_parameter)$")),
    ("a ConvNeXt", (r"features\.1\.0\.layer_scale$",)),
    ("a RegNet", (r"block1-0\.f\.a|(?:^|\.)s1\.b1\.conv1\.|regnet\.",)),
    ("a MobileNetV3", (r"(?:^|\.)conv_stem\.", r"(?:^|\.)conv_head\.bias$")),
    ("an EfficientNet", (r"(?:^|[._])conv_stem\.", r"conv_dw\.|_depthwise_conv\.|conv_pwl\.", r"\.se\.|_se_")),
    ("an EfficientNet", (r"features\.1\.0\.block\.0\.0\.", r"\.fc1\.")),
    ("a MobileNet", (r"conv_stem\.|features\.1\.(?:conv|block)\.0\.0\.",)),
    ("a DenseNet", (r"denselayer1\.",)),
    ("an Inception network", (r"Mixed_5b|Mixed_3a|mixed_5b|inception3a",)),
    ("an HRNet", (r"stage2\.0\.branches\.",)),
    ("an MLP-Mixer", (r"mlp_tokens\.|token_mixing",)),
    (
        "a pre-activation ResNet (BiT)",
        (r"block1\.unit01\.|stages\.0\.blocks\.0\.norm1\.", r"(?:stem|root)\.conv\.weight$"),
    ),
    ("a Vision Transformer", (_ATTENTION,)),
    ("a VGG or an AlexNet", (r"(?:^|\.)features\.0\.weight$", r"(?:^|\.)features\.[23]\.weight$")),
)
_MOST = 20_000  # names examined: a hostile file can have any number
_FROM_IMAGE = 3  # input channels of the first convolution


def describe(shapes: Shapes) -> str | None:
    """For example "a Vision Transformer, patch 16, width 384"; None for an unknown network."""
    keys = list(itertools.islice(shapes, _MOST))
    title = next((title for title, patterns in _NETWORKS if _all_found(patterns, keys)), None)
    if title is None:
        return None
    first = next((shape for shape in shapes.values() if len(shape) == 4 and shape[1] == _FROM_IMAGE), None)
    if first is None:
        return title
    if "Transformer" in title and first[2] == _FROM_IMAGE:  # a stem of 3×3 convolutions
        return "a transformer with a convolutional stem"
    patch = [f"patch {first[2]}"] if "Transformer" in title else []
    return ", ".join([title, *patch, f"width {first[0]}"])


def _all_found(patterns: Iterable[str], keys: Iterable[str]) -> bool:
    return all(any(re.search(pattern, key) for key in keys) for pattern in patterns)
