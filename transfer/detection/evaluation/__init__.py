"""Evaluators behind detectron2's DatasetEvaluator."""
