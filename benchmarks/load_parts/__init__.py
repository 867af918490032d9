"""Parts of the load test: see ``benchmarks/load.py``."""
