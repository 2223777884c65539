"""Data sets of the benchmarks: the embedded synthetic one, and the user's own in a standard layout."""
