"""An S3 server on loopback, and a proxy before it that fails in every way a network does."""

import http.client
import logging
import os
import socket
import struct
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

FAULTS = ("500", "503", "reset", "lost", "cut", "stall", "trickle")
"""Refused twice over, no answer, an answer that is lost after the work is done, half an answer, silence, dripping."""
_HOP = {"connection", "transfer-encoding", "keep-alive"}

Plan = Callable[[str, str, int], str | None]
"""Of (method, path with query, number of the try from 0): the fault, or None."""


def first_tries(*faults: str) -> Plan:
    """Fail the first tries of every request, in this order."""
    return lambda method, path, number: faults[number] if number < len(faults) else None


def varied(seed: int, tries: int, faults: Sequence[str] = FAULTS) -> Plan:
    """Fail the first tries of every request, each request in its own way."""
    import random

    return lambda method, path, number: (
        random.Random(f"{seed} {method} {path} {number}").choice(faults) if number < tries else None
    )


class FaultyProxy(ThreadingHTTPServer):
    """Forwards to a server, or does what `plan` says."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = port
        self.plan: Plan = first_tries()
        self.stall_seconds = 60.0
        self.tries: Counter[tuple[str, str]] = Counter()
        self.injected: Counter[str] = Counter()
        self.authorisations: set[str] = set()
        self.lock = threading.Lock()
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def follow(self, plan: Plan) -> None:
        """Begin a new plan; every request counts from its first try again."""
        with self.lock:
            self.plan = plan
            self.tries.clear()
            self.injected.clear()

    def fault_of(self, method: str, path: str) -> str | None:
        with self.lock:
            number = self.tries[method, path]
            self.tries[method, path] += 1
            fault = self.plan(method, path, number)
            if fault:
                self.injected[fault] += 1
            return fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: FaultyProxy

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.authorisations.add(self.headers.get("authorization", ""))
        fault = self.server.fault_of(self.command, self.path)
        if fault in ("500", "503"):
            self.answer(int(fault), [("content-type", "application/xml")], b"<Error><Code>SlowDown</Code></Error>")
        elif fault == "reset":
            self.reset()
        elif fault == "stall":
            self.server.ended.wait(self.server.stall_seconds)
            self.reset()
        else:
            status, headers, content = self.forward(body)
            if fault == "lost":
                self.reset()
            elif fault == "cut":
                self.answer(status, headers, content, until=len(content) // 2)
                self.reset()
            elif fault == "trickle":
                self.answer(status, headers, content, pieces=6)
            else:
                self.answer(status, headers, content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

    def forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=30)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        upstream.request(self.command, self.path, body=body, headers=headers)
        response = upstream.getresponse()
        content = response.read()
        kept = [(name, value) for name, value in response.getheaders() if name.lower() not in _HOP]
        upstream.close()
        return response.status, kept, content

    def answer(
        self, status: int, headers: list[tuple[str, str]], content: bytes, *, until: int | None = None, pieces: int = 1
    ) -> None:
        self.send_response_only(status)
        length = None
        for name, value in headers:
            if name.lower() == "content-length":
                length = value
            else:
                self.send_header(name, value)
        self.send_header("content-length", length if self.command == "HEAD" and length else str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        sent = content[:until] if until is not None else content
        step = max(1, -(-len(sent) // pieces))
        for start in range(0, len(sent), step):
            self.wfile.write(sent[start : start + step])
            self.wfile.flush()
            if pieces > 1:
                time.sleep(0.1)

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.close_connection = True
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def handle(self) -> None:
        try:
            super().handle()
        except (OSError, ValueError):  # the client left, or `reset` closed the files
            self.close_connection = True

    def finish(self) -> None:
        try:
            super().finish()
        except (OSError, ValueError):
            self.close_connection = True


@contextmanager
def s3_server(bucket: str) -> Iterator[int]:
    """Run a server with one empty bucket; yields its port."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        _, port = server.get_host_and_port()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/{bucket}", method="PUT")
        urllib.request.urlopen(request, timeout=30).close()
        yield port
    finally:
        server.stop()


@contextmanager
def faulty_proxy(port: int) -> Iterator[FaultyProxy]:
    """Run a proxy before a server."""
    proxy = FaultyProxy(port)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.ended.set()
        proxy.shutdown()
        proxy.server_close()
        thread.join(10)


def lead_to(proxy: FaultyProxy, patch: pytest.MonkeyPatch, environment: Mapping[str, str]) -> None:
    """Have the environment lead to a proxy, with these variables and none of the shell's credentials."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        patch.delenv(name)
    for name, value in {"AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL": proxy.url, **environment}.items():
        patch.setenv(name, value)
