"""Augmentations of images, batched and on the device."""
