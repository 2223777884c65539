"""Fine-tuning and testing of detectron2's detectors under published protocols."""
