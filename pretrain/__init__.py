"""Self-supervised pretraining of torchvision ResNets. Runs where detectron2 is not installed."""
