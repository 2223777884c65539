"""Data sets the benchmarks run on: the embedded synthetic one, and one standard view of the user's own."""
