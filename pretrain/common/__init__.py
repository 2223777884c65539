"""The ground floor that every other room takes from: errors, files, provenance, signals."""
