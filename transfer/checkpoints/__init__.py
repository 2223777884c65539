"""Read, recognise, map, convert and verify checkpoints of any project."""
