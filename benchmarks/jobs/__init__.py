"""Commands and their jobs: what runs where, what failed, and how to go on or to end it."""
