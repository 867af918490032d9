"""Other people's weights as encoders: published STAMP and SEAL checkpoints."""
