"""Downstream tasks, run records and tables. Importing the package imports neither torch nor detectron2."""

import transfer  # noqa: F401  # for its filter of the warnings that detectron2 gives
