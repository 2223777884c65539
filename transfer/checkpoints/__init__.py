"""Checkpoints of any project: reading, recognising, mapping, converting and verifying them."""
