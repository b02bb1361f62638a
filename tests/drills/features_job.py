"""A features job that a test can kill: ``python features_job.py PLAN.json RUN``."""

import sys
from pathlib import Path

from cluster.batch.features import compute_features
from cluster.batch.plans import FeaturesPlan
from cluster.resources import Resources
from cluster.session import ray_session

if __name__ == "__main__":
    plan = FeaturesPlan.model_validate_json(Path(sys.argv[1]).read_text())
    with ray_session(Path(__file__).resolve().parents[2], local=True):
        print(compute_features(plan, Path(sys.argv[2]), Resources(workers=1)), flush=True)
