"""From run records to tables, charts and pictures."""
