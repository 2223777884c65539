"""Runtime of a pretraining run: processes, optimizers, resuming, metrics, checks for collapse."""
