"""Speed of the pretraining stage, always beside what it is measured against: ``python -m benchmarks.perf data|step``."""
