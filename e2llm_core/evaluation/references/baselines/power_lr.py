"""Log relative power of five bands and logistic regression."""

from e2llm_core.evaluation.references.baselines.linear import LinearBaseline
from e2llm_core.evaluation.references.classifiers import logistic_regression
from e2llm_core.evaluation.references.features.spectral import RelativePower

BASELINE = LinearBaseline(RelativePower(), logistic_regression)
