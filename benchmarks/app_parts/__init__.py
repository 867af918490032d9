"""What benchmarks/app_pages.py serves and drives."""
