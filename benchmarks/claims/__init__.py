"""Claims of the InfoMin and SuperInfo papers as commands: docs/claims.md. Others are suites (benchmarks/suites)."""
