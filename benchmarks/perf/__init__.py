"""Speed of the stages, each beside its reference: ``python -m benchmarks.perf data|step|linear|convert``."""
