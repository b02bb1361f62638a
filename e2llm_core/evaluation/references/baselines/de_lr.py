"""Differential entropy of five bands and logistic regression."""

from e2llm_core.evaluation.references.baselines.linear import LinearBaseline
from e2llm_core.evaluation.references.classifiers import logistic_regression
from e2llm_core.evaluation.references.features.spectral import DifferentialEntropy

BASELINE = LinearBaseline(DifferentialEntropy(), logistic_regression)
