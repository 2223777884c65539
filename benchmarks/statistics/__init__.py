"""How certain a difference between checkpoints is: weighted metrics, resampling, several comparisons. No torch."""
