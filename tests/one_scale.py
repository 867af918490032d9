"""Features centred and divided by one number, as a scikit-learn step: what plain pipelines need to repeat a probe."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin


class OneScale(TransformerMixin, BaseEstimator):
    """Mean 0, mean variance 1."""

    def fit(self, x, y=None):
        self.mean_ = x.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.by_ = np.float32(1 / np.sqrt(x.var(axis=0, dtype=np.float64).mean()))
        return self

    def transform(self, x):
        return ((x - self.mean_) * self.by_).astype(x.dtype)
