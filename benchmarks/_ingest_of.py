"""Ingests of one checkout, timed one at a time as they are asked for on standard input.

python -P benchmarks/_ingest_of.py CHECKOUT, in that checkout and with it as PYTHONPATH. Each line is a JSON of a
source, a new folder, and the number of workers; the answer is one line: seconds.
"""

import contextlib
import io
import json
import sys
import time
from pathlib import Path

from pydantic import TypeAdapter

from cluster.session import ray_session
from storage.layout import LayoutConfig
from storage.readers import AnySource
from storage.signal import SignalConfig

try:
    from cluster.batch.ingest import IngestPlan, ingest
    from cluster.resources import Resources
except ImportError:  # as they were called before
    from cluster.ingest import IngestPlan, ingest

    from cluster.session import Resources


def main() -> None:
    """Answer until the input ends."""
    with ray_session(Path(sys.argv[1]), local=True):
        for line in sys.stdin:
            asked = json.loads(line)
            place = Path(asked["place"])
            place.mkdir()
            source = TypeAdapter(AnySource).validate_python(asked["source"])
            plan = IngestPlan(f"{place}/store.zarr", "benchmark", source, SignalConfig(), LayoutConfig())
            with contextlib.redirect_stdout(io.StringIO()):
                started = time.perf_counter()
                ingest(plan, Resources(workers=asked["workers"]), place)
                seconds = time.perf_counter() - started
            print(f"seconds {seconds:.6f}", flush=True)


if __name__ == "__main__":
    main()
