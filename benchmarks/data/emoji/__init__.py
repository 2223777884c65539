"""The embedded data set: scenes drawn from emoji."""
