"""Contrastive losses and bounds on predictive and superfluous information."""
