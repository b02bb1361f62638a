"""Covariances of five bands in the tangent space, and logistic regression."""

from e2llm_core.evaluation.references.baselines.linear import LinearBaseline
from e2llm_core.evaluation.references.classifiers import logistic_regression
from e2llm_core.evaluation.references.features.covariance import BandCovariances

BASELINE = LinearBaseline(BandCovariances(), logistic_regression)
