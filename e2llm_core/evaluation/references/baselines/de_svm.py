"""Differential entropy of five bands and a linear support vector machine."""

from e2llm_core.evaluation.references.baselines.linear import LinearBaseline
from e2llm_core.evaluation.references.classifiers import linear_svm
from e2llm_core.evaluation.references.features.spectral import DifferentialEntropy

BASELINE = LinearBaseline(DifferentialEntropy(), linear_svm)
