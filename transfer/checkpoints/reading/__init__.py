"""Checkpoint files of every format into plain values; no code in a file is run."""
