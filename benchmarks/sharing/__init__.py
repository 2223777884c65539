"""Records and predictions from one machine to another, and numbers to a model card."""
