"""Downstream tasks, run records and tables. Importing the package imports neither torch nor detectron2."""
