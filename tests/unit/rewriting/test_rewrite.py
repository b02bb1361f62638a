"""Rewriting rationales: which rewordings are taken, how the endpoint is asked, and how a run goes on."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from e2llm_core.claims.claims import Claim, statements_in
from e2llm_core.claims.table import quantities_of
from e2llm_core.rewriting.endpoint import Endpoint, read_key
from e2llm_core.rewriting.rewriter import rewrite
from e2llm_core.rewriting.survival import lost_in
from jobs import cli
from storage.errors import InputError
from storage.signal.channels import SEED_CHANNELS

LABELS = ["sad", "happy", "fear"]
QUANTITIES = quantities_of(SEED_CHANNELS)
FIRST, SECOND = (Claim(QUANTITIES[place], above).sentence() for place, above in ((0, True), (9, False)))
ORIGINAL = f"{FIRST} {SECOND} This points to sad."


class FakeModel(ThreadingHTTPServer):
    """Answers `replies` in turn, then the last one for ever: a text, a status, or a body."""

    def __init__(self, *replies: str | int | dict) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies = list(replies)
        self.asked: list[dict] = []
        self.keys: list[str | None] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def next_reply(self, body: dict, key: str | None) -> str | int | dict:
        with self.lock:
            self.asked.append(body)
            self.keys.append(key)
            return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


class _Handler(BaseHTTPRequestHandler):
    server: FakeModel

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reply = self.server.next_reply(body, self.headers.get("Authorization"))
        if reply == "echo":
            reply = "So: " + body["messages"][1]["content"].rpartition("The rationale:\n")[2]
        status = reply if isinstance(reply, int) else 200
        content = reply if isinstance(reply, dict) else {"choices": [{"message": {"content": reply}}]}
        content = {"error": {"message": "no such model"}} if isinstance(reply, int) else content
        self.send_response(200 if self.path == "/v1/chat/completions" and status == 200 else status)
        self.send_header("Location", "/v1/elsewhere")
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator:
    running: list[FakeModel] = []

    def start(*replies: str | int | dict) -> FakeModel:
        server = FakeModel(*replies)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def no_key(monkeypatch) -> None:
    monkeypatch.delenv("E2LLM_REWRITE_KEY", raising=False)


def endpoint(server: FakeModel, **changes) -> Endpoint:
    return Endpoint(**{"url": server.url, "model": "large", "timeout_seconds": 5.0, "pause_seconds": 0.001} | changes)


def line(number: int, **changes) -> dict:
    claims = [claim.to_dict() for claim in statements_in(ORIGINAL).claims]
    texts = {"id": str(number), "label": "sad", "labels": LABELS, "rationale": ORIGINAL}
    return texts | {"claims": claims, "window": number} | changes


def write(path: Path, lines: list[dict]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


def read(path: Path) -> list[dict]:
    return [json.loads(one) for one in path.read_text().splitlines()]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(QUANTITIES), st.booleans()), min_size=1, max_size=4, unique=True),
    st.sampled_from(["Looking closely, one thing stands out.", "Taken together,", ""]),
    st.sampled_from(LABELS),
    st.randoms(),
)
def test_the_claims_in_any_order_and_other_words_around_them_survive(claims, between, label, random):
    sentences = [Claim(*one).sentence() for one in claims]
    original = f"{' '.join(sentences)} This points to {label}."
    random.shuffle(sentences)
    assert lost_in(f"{between} {' '.join(sentences)} Overall this looks like {label}.", original, LABELS) is None
    if len(sentences) > 1:
        assert lost_in(f"{' '.join(sentences[1:])} This is {label}.", original, LABELS) == "has other claims"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{FIRST} {SECOND} All in all, sad.", None),
        ("", "is empty"),
        (f"{FIRST} This points to sad.", "has other claims"),
        (f"{FIRST} {FIRST} {SECOND} This points to sad.", "has other claims"),
        (f"{FIRST} {SECOND.replace('below', 'above').replace('less', 'more')} Sad.", "has other claims"),
        (f"{ORIGINAL} The alpha rhythm is striking.", "says what cannot be checked"),
        (f"{FIRST} {SECOND} This points to fear.", "names other labels"),
        (f"{FIRST} {SECOND} This points to sad rather than happiness.", "names other labels"),
        (f"{FIRST} {SECOND} Remarkable.", "names other labels"),
        (f"It is not true that {FIRST[0].lower()}{FIRST[1:]} {SECOND} Sad.", "negates or weakens"),
        (f"Perhaps {FIRST[0].lower()}{FIRST[1:]} {SECOND} Sad.", "negates or weakens"),
        (f"**{FIRST}** {SECOND} Sad.", "holds markup"),
        (f"<think>{ORIGINAL}</think>", "holds markup"),
        (f"{ORIGINAL} {'So it goes. ' * 100}", "is too long"),
    ],
)
def test_what_is_taken_and_why_the_rest_is_not(text, reason):
    assert lost_in(text, ORIGINAL, LABELS) == reason


def test_a_file_is_rewritten_in_order_and_counted(serve, tmp_path):
    taken = f"{SECOND} In addition: {FIRST} Hence sad."
    server = serve(taken, f"{FIRST} Sad.", f"<think>\nhm\n</think>\n\n{taken}\n", taken)
    source, target = write(tmp_path / "in.jsonl", [line(n) for n in range(5)]), tmp_path / "new" / "out.jsonl"
    counted = rewrite(source, target, endpoint(server), 1)
    assert counted == {"rewritten": 4, "has other claims": 1}
    found = read(target)
    assert [one["id"] for one in found] == ["0", "1", "2", "3", "4"]
    assert [one["rationale"] for one in found] == [taken, ORIGINAL, taken, taken, taken]
    assert [one["reason"] for one in found] == [None, "has other claims", None, None, None]
    for number, one in enumerate(found):
        assert one["claims"] == line(number)["claims"]
        assert (one["window"], one["original"], one["rewriter"]) == (number, ORIGINAL, "large")
        assert statements_in(one["rationale"]).claims
    asked = server.asked[0]
    assert asked["model"] == "large"
    assert FIRST in asked["messages"][1]["content"]
    assert server.keys == [None] * 5


def test_a_run_that_was_killed_goes_on_and_asks_nothing_twice(serve, tmp_path):
    source, target = write(tmp_path / "in.jsonl", [line(n) for n in range(6)]), tmp_path / "out.jsonl"
    server = serve("echo")
    rewrite(source, target, endpoint(server), 3)
    whole = target.read_bytes()
    assert all(one["rationale"] == f"So: {ORIGINAL}" for one in read(target))
    lines = whole.splitlines(keepends=True)
    target.write_bytes(b"".join(lines[:2]) + lines[2][:40])
    server.asked.clear()
    assert rewrite(source, target, endpoint(server), 3) == {"rewritten": 6}
    assert len(server.asked) == 4
    assert target.read_bytes() == whole
    server.asked.clear()
    assert rewrite(source, target, endpoint(server), 3) == {"rewritten": 6}
    assert not server.asked


def test_what_was_written_before_a_failure_stays(serve, tmp_path):
    source, target = write(tmp_path / "in.jsonl", [line(n) for n in range(6)]), tmp_path / "out.jsonl"
    with pytest.raises(InputError, match=r"refuses with status 401 \(no such model\)"):
        rewrite(source, target, endpoint(serve("echo", "echo", 401)), 1)
    assert [one["id"] for one in read(target)] == ["0", "1"]
    assert rewrite(source, target, endpoint(serve("echo")), 1) == {"rewritten": 6}


def test_busy_and_broken_endpoints_are_asked_again(serve, tmp_path):
    source, server = write(tmp_path / "in.jsonl", [line(0)]), serve(429, 503, 500, "echo")
    assert rewrite(source, tmp_path / "out.jsonl", endpoint(server), 1) == {"rewritten": 1}
    assert len(server.asked) == 4
    with pytest.raises(InputError, match="refuses with status 503"):
        rewrite(source, tmp_path / "other.jsonl", endpoint(serve(503)), 1)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (404, "refuses with status 404"),
        (307, "refuses with status 307"),
        ({"result": "x"}, "another form than chat/completions"),
        ({"choices": []}, "another form than chat/completions"),
    ],
)
def test_an_endpoint_that_cannot_be_used_is_named(serve, reply, words):
    server = serve(reply)
    with pytest.raises(InputError, match=words) as refused:
        endpoint(server).ask("", "", 1)
    assert refused.value.place == f"--url {server.url}"
    assert len(server.asked) == 1


def test_nobody_there_is_refused(serve):
    server = serve("echo")
    server.server_close()
    with pytest.raises(InputError, match=r"gives no answer \(no connection\)"):
        endpoint(server).ask("", "", 1)


def test_a_reply_that_was_cut_off_is_not_taken(serve, tmp_path):
    reply = {"choices": [{"message": {"content": ORIGINAL}, "finish_reason": "length"}]}
    source = write(tmp_path / "in.jsonl", [line(0)])
    assert rewrite(source, tmp_path / "out.jsonl", endpoint(serve(reply)), 1) == {"was cut off": 1}


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["{"], r"in\.jsonl:1: is no JSON"),
        ([json.dumps({"id": "1"})], r"in\.jsonl:1: label: Field required"),
        ([json.dumps(line(1)), json.dumps(line(1))], r"in\.jsonl:2: id 1 is that of line 1"),
        ([json.dumps(line(1, label="anger"))], "label anger is none of labels sad, happy, fear"),
        ([json.dumps(line(1, claims=line(1)["claims"][:1]))], "in.jsonl:1: claims: are not the claims that rationale"),
        ([json.dumps(line(1, claims=[line(1)["claims"][0] | {"above": False}, line(1)["claims"][1]]))], "are not the"),
        ([json.dumps(line(1, claims=[{}]))], "in.jsonl:1: claims: names no version of the table of claims"),
        ([json.dumps(line(1, rationale="The alpha rhythm is high. Sad."))], "no claim of this version"),
        ([], "holds no rationale"),
    ],
)
def test_a_bad_file_is_refused_before_anybody_is_asked(serve, tmp_path, lines, words):
    source, server = tmp_path / "in.jsonl", serve("echo")
    source.write_text("\n".join(lines))
    with pytest.raises(InputError, match=words):
        rewrite(source, tmp_path / "out.jsonl", endpoint(server), 1)
    assert not server.asked
    assert not (tmp_path / "out.jsonl").exists()


def test_a_target_of_something_else_is_refused(serve, tmp_path):
    source, target, server = write(tmp_path / "in.jsonl", [line(0)]), tmp_path / "out.jsonl", serve("echo")
    rewrite(source, target, endpoint(server), 1)
    for changed in (endpoint(server, model="other"), endpoint(server)):
        with pytest.raises(InputError, match="was made from another text of 0, or by another model"):
            rewrite(source, target, changed, 1)
        write(source, [line(0, rationale=f"{ORIGINAL} Indeed.")])
    with pytest.raises(InputError, match="is the file that is read"):
        rewrite(source, source, endpoint(server), 1)


def test_the_key_comes_from_the_environment_or_a_private_file(serve, tmp_path, monkeypatch):
    assert read_key(None) is None
    monkeypatch.setenv("E2LLM_REWRITE_KEY", " abc\n")
    assert read_key(None) == "abc"
    path = tmp_path / "key"
    path.write_text("def\n")
    path.chmod(0o644)
    with pytest.raises(InputError, match=r"can be read by others\. chmod 600"):
        read_key(path)
    path.chmod(0o600)
    assert read_key(path) == "def"
    server = serve("echo")
    told = endpoint(server, key="def")
    told.ask("", "", 1)
    assert server.keys == ["Bearer def"]
    assert "def" not in repr(told)
    for content, words in (("", "is empty"), ("two words", "not one word")):
        path.write_text(content)
        with pytest.raises(InputError, match=words):
            read_key(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_key(tmp_path / "none")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://example.org/v1", "would send the key unencrypted"),
        ("ftp://example.org", "is no address"),
        ("example.org/v1", "is no address"),
        ("https://me:secret@example.org/v1", "holds a user's name"),
    ],
)
def test_an_address_that_would_tell_too_much_is_refused(url, words):
    with pytest.raises(InputError, match=words) as refused:
        Endpoint(url, "large", "key")
    assert "secret" not in str(refused.value)


def test_the_command_says_how_many_were_taken(serve, tmp_path):
    source, server = write(tmp_path / "in.jsonl", [line(n) for n in range(3)]), serve("echo", f"{FIRST} Sad.", "echo")
    target = tmp_path / "out.jsonl"
    words = ["rewrite", str(source), str(target), "--url", server.url, "--model", "large", "--at-once", "1"]
    ended = CliRunner().invoke(cli.app, words)
    assert ended.exit_code == 0, ended.output
    assert "3 lines, 2 rewritten, 1 kept as they were" in " ".join(ended.output.split())
    assert "1 rewritings not taken: each has other claims" in ended.output
