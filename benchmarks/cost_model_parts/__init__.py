"""Parts of `cost_model.py`: what is measured, the laws fitted to it, what they say of larger stores, and its prices."""
