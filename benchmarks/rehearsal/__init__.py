"""`python -m benchmarks rehearsal`: profile paper from end to end in minutes, before it takes days (command.py)."""
