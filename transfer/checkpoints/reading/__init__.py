"""Read checkpoint files of every supported format into plain values; no code in a file is run."""
