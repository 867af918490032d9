"""The two kinds of probe: classes by logistic regression, a gene by ridge regression."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from stamp_index.evaluate.probe.logistic import LogisticProblem
from stamp_index.evaluate.probe.scores import class_scores, gene_scores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from stamp_index.evaluate.probe.logistic import LogisticFit

    Predict = Callable[[NDArray[np.float32]], NDArray[np.float64]]
    Pause = Callable[[], None]

MAX_ITERATIONS: Final = 1000
# Multiplications of features by weights in one uninterrupted call of L-BFGS: 1.0 s on one core of a 2.5 GHz Xeon
# with 16,000 spots of 512 numbers in five classes (14 ms per iteration).
_WORK_PER_CALL: Final = 3e9
_MIN_ITERATIONS: Final = 20
# Training spots above which classes are fitted by `LogisticProblem`. `ProbeSettings.max_spots` is this by default, so such
# probes are scikit-learn's own numbers in every release; with more, its fit takes minutes and ours a fraction of them.
MANY_SPOTS: Final = 20_000


@dataclass(frozen=True)
class Fitted:
    """A fitted probe.

    Attributes
    ----------
    C : float
        Inverse strength of its penalty.
    predict : callable
        Maps features (m, d) to an output (m, k): probabilities of the k classes, or one expected value.
    converged : bool
        Whether the fit reached its optimum.
    """

    C: float
    predict: Predict
    converged: bool = True


class Task(Protocol):
    """What cross-validation needs to know of a kind of probe."""

    grid: tuple[float, ...]  # values of C to choose from, ascending
    default_C: float  # where nothing can be chosen

    def fits(
        self, x: NDArray[np.float32], y: NDArray[Any], grid: tuple[float, ...], pause: Pause
    ) -> Iterator[Fitted]:
        """One probe for each C; `pause` is called at least every second or so, and may raise."""

    def quality(self, y: NDArray[Any], output: NDArray[np.float64]) -> float:
        """Judge predictions by the number by which C is chosen; higher is better."""

    def scores(self, y: NDArray[Any], output: NDArray[np.float64]) -> dict[str, float]:
        """Everything that is reported of held-out spots."""

    def blind(self, y: NDArray[Any], n_test: int, seed: int) -> dict[str, NDArray[np.float64]]:
        """Answer for n spots as probes do that see nothing but training targets, by their names."""


class ClassTask:
    """Multinomial logistic regression by L-BFGS: scikit-learn's, or `LogisticProblem` above `MANY_SPOTS` spots.

    Both have the same optimum. Ours ends within 1e-4 of its loss.

    Parameters
    ----------
    n_classes : int
        Targets are int64 below this.
    """

    grid = tuple(float(value) for value in np.logspace(-4, 4, 7))
    default_C = 1.0

    def __init__(self, n_classes: int) -> None:
        self.n_classes = n_classes

    def fits(
        self, x: NDArray[np.float32], y: NDArray[np.int64], grid: tuple[float, ...], pause: Pause
    ) -> Iterator[Fitted]:
        """Fit each from the weights of the one before, whose optimum is near; use one before the next is asked for."""
        return (self._many if len(x) > MANY_SPOTS else self._few)(x, y, grid, pause)

    def _few(
        self, x: NDArray[np.float32], y: NDArray[np.int64], grid: tuple[float, ...], pause: Pause
    ) -> Iterator[Fitted]:
        from sklearn.linear_model import LogisticRegression

        per_call = max(_MIN_ITERATIONS, int(_WORK_PER_CALL / (x.size * self.n_classes)))
        model = LogisticRegression(max_iter=min(per_call, MAX_ITERATIONS), warm_start=True)
        for C in grid:
            model.set_params(C=C)
            converged = _fit_in_parts(model, x, y, pause)
            yield Fitted(C, lambda rows: self._probabilities(model, rows), converged)

    def _many(
        self, x: NDArray[np.float32], y: NDArray[np.int64], grid: tuple[float, ...], pause: Pause
    ) -> Iterator[Fitted]:
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        problem = LogisticProblem(x, y, device=device, pause=pause)
        fit: LogisticFit | None = None
        for C in grid:
            fit = problem.fit(C, start=fit, max_iterations=MAX_ITERATIONS)
            yield Fitted(C, self._spread_over_classes(fit), fit.converged)

    def _spread_over_classes(self, fit: LogisticFit) -> Predict:
        def predict(rows: NDArray[np.float32]) -> NDArray[np.float64]:
            out = np.zeros((len(rows), self.n_classes))  # a class that the fit never saw stays 0
            out[:, fit.classes] = fit.probabilities(rows)
            return out

        return predict

    def _probabilities(self, model: Any, rows: NDArray[np.float32]) -> NDArray[np.float64]:  # noqa: ANN401
        out = np.zeros((len(rows), self.n_classes))  # a class that the model never saw stays 0
        out[:, model.classes_] = model.predict_proba(rows)
        return out

    def quality(self, y: NDArray[np.int64], output: NDArray[np.float64]) -> float:
        """Balanced accuracy."""
        from stamp_index.evaluate.probe.scores import recalls

        return float(np.nanmean(recalls(y, output.argmax(axis=1), self.n_classes)))

    def scores(self, y: NDArray[np.int64], output: NDArray[np.float64]) -> dict[str, float]:
        """Balanced accuracy, macro-F1 and AUROC over the classes that are there."""
        return class_scores(y, output)

    def blind(self, y: NDArray[np.int64], n_test: int, seed: int) -> dict[str, NDArray[np.float64]]:
        """Say the commonest class always; and classes at random, as often as they are there."""
        from sklearn.dummy import DummyClassifier

        out = {}
        for name, strategy in (("majority", "most_frequent"), ("stratified", "stratified")):
            model = DummyClassifier(strategy=strategy, random_state=seed).fit(
                np.zeros((len(y), 1)), y
            )
            out[name] = self._probabilities(model, np.zeros((n_test, 1), np.float32))
        return out


def _fit_in_parts(model: Any, x: NDArray[np.float32], y: NDArray[np.int64], pause: Pause) -> bool:  # noqa: ANN401
    """Run L-BFGS to its optimum in calls of few iterations, each from the weights of the last."""
    from sklearn.exceptions import ConvergenceWarning

    for _ in range(-(-MAX_ITERATIONS // model.max_iter)):
        pause()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # what is returned says it
            model.fit(x, y)
        if model.n_iter_.max() < model.max_iter:
            return True
    return False


class GeneTask:
    """Ridge regression (scikit-learn), whose penalty alpha is 1 / C."""

    grid = tuple(float(value) for value in np.logspace(-6, 0, 7))
    default_C = 1e-3

    def fits(
        self, x: NDArray[np.float32], y: NDArray[np.float64], grid: tuple[float, ...], pause: Pause
    ) -> Iterator[Fitted]:
        """One ridge regression after the other."""
        from sklearn.linear_model import Ridge

        rows = x.astype(np.float64)  # the normal equations square the condition number
        for C in grid:
            pause()
            model = Ridge(alpha=1.0 / C, solver="cholesky").fit(rows, y)
            yield Fitted(C, _ridge_output(model))

    def quality(self, y: NDArray[np.float64], output: NDArray[np.float64]) -> float:
        """Less squared error is better."""
        return -float(np.mean((y - output[:, 0]) ** 2))

    def scores(self, y: NDArray[np.float64], output: NDArray[np.float64]) -> dict[str, float]:
        """Pearson, Spearman and R2."""
        return gene_scores(y, output[:, 0])

    def blind(
        self,
        y: NDArray[np.float64],
        n_test: int,
        seed: int,
    ) -> dict[str, NDArray[np.float64]]:
        """Say the mean of the training spots always."""
        return {"train_mean": np.full((n_test, 1), y.mean())}


def _ridge_output(model: Any) -> Predict:  # noqa: ANN401
    """Prediction of a ridge regression as an output of one column."""

    def predict(rows: NDArray[np.float32]) -> NDArray[np.float64]:
        values: NDArray[np.float64] = model.predict(rows.astype(np.float64))
        return values[:, None]

    return predict
