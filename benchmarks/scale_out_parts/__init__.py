"""The parts of scale_out.py, one a file: `add_arguments` and `run`, which returns Markdown."""
