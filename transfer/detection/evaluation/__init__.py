"""Evaluators with detectron2's DatasetEvaluator interface."""
