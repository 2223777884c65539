"""Makes profile paper small in every process that imports it: ``--plugin benchmarks.rehearsal.plugin``."""

from benchmarks.rehearsal.shrink import shrink_profile

shrink_profile()
