"""Speed of the pretraining stage, beside what it is measured against: ``python -m benchmarks.perf data|step``."""
