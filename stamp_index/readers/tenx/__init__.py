"""Output folders of 10x Genomics: Visium, Visium HD and Xenium."""
