"""Proofs as this project wrote them before a proof had a family and its input in one field."""


def as_earlier(proof, **changes):
    """A proof's JSON in its fields of versions 3 to 5, without what could be given from version 5 on."""
    images, maps = proof["input"], proof["forward_difference"]
    kept = {key: proof[key] for key in proof.keys() - {"family", "reason", "input", "given"}}
    return kept | {
        "source": proof["family"],
        "source_reason": proof["reason"],
        "pixel_mean": images["mean"],
        "pixel_std": images["std"],
        "channel_order": images["order"],
        "stride_in_1x1": images["stride_in_1x1"],
        "assumed": images["assumed"],
        "forward_difference": {"c4": maps, "fpn": maps},
        **changes,
    }
