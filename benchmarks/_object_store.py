"""Reading over the S3 protocol on loopback: ranged reads of our shards against whole `.npy` objects."""

import io
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from benchmarks._formats import Corpus
from benchmarks._report import rounds, seconds
from storage.signal import SEED_CHANNELS
from storage.store import open_store
from storage.windows import WindowConfig, Windows

_BUCKET = "benchmark"
_VARIABLES = {
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def _server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    before = {name: os.environ.get(name) for name in [*_VARIABLES, "AWS_ENDPOINT_URL"]}
    os.environ.update(_VARIABLES, AWS_ENDPOINT_URL=f"http://{host}:{port}")
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def object_store_rates(corpus: Corpus, turns: int, number: int = 16) -> dict[str, list[float]]:
    """Windows per second of ours and of whole-object reads."""
    import boto3

    with _server() as endpoint:
        client = boto3.client("s3", endpoint_url=endpoint)
        client.create_bucket(Bucket=_BUCKET)
        root = corpus.folder / "lz4.zarr"
        for path in root.rglob("*"):
            if path.is_file():
                client.upload_file(str(path), _BUCKET, f"lz4.zarr/{path.relative_to(root)}")
        shape = (len(SEED_CHANNELS), corpus.n_times)
        for recording in range(corpus.num_recordings):
            content = io.BytesIO()
            np.save(content, np.fromfile(corpus.folder / f"{recording}.int16", np.int16).reshape(shape))
            client.put_object(Bucket=_BUCKET, Key=f"{recording}.npy", Body=content.getvalue())
        config = WindowConfig(window_seconds=corpus.window_seconds, stride_seconds=1 / 256)
        windows = Windows(open_store(f"s3://{_BUCKET}/lz4.zarr"), config)
        pairs = corpus.unaligned(number, 5)

        def ours() -> None:
            windows.read(pairs[:, 0] * (corpus.n_times - corpus.window + 1) + pairs[:, 1])

        def whole() -> None:
            for recording, start in pairs.tolist():
                body = client.get_object(Bucket=_BUCKET, Key=f"{recording}.npy")["Body"].read()
                steps = np.load(io.BytesIO(body))[:, start : start + corpus.window]
                np.multiply(steps, np.float32(0.1))

        def per_second(work: Callable[[], None]) -> Callable[[], float]:
            return lambda: number / seconds(work)

        return rounds({"ours": per_second(ours), "whole objects (.npy)": per_second(whole)}, turns)
