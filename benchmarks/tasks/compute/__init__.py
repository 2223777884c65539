"""The arithmetic behind the tasks, which imports torch and detectron2."""
