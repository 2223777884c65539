"""Speed of the stages, beside what it is measured against: ``python -m benchmarks.perf data|step|linear|convert``."""
