"""A language model behind an OpenAI-compatible endpoint (``POST .../chat/completions``)."""

import os
import stat
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from threading import local
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.util import Retry

from storage.errors import InputError

KEY_VARIABLE = "E2LLM_REWRITE_KEY"
"""Environment variable of the key; without it and without a file, none is sent."""

_CONNECT_SECONDS = 10.0
_RETRIES = 5
_REPEATED = (408, 429, 500, 502, 503, 504)


def read_key(path: Path | None) -> str | None:
    """Read the key from a file that nobody else can read, else from `KEY_VARIABLE`; None where there is neither.

    Raises
    ------
    InputError
        When the file cannot be read, is open to others, or holds no single word.
    """
    if path is None:
        key, place = os.environ.get(KEY_VARIABLE, ""), KEY_VARIABLE
    else:
        place = f"--key-file {path}"
        try:
            with path.open(encoding="ascii") as file:
                mode = os.fstat(file.fileno()).st_mode
                key = file.read()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
            raise InputError(place, f"cannot be read: {reason}", "Name a file with the key alone.") from None
        if stat.S_IMODE(mode) & 0o077:
            raise InputError(place, "can be read by others", f"chmod 600 {path}")
        if not key.strip():
            raise InputError(place, "is empty", "Write the key into it.")
    key = key.strip()
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise InputError(place, "holds no key: it is not one word", "Write the key into it, and nothing else.")
    return key or None


@dataclass(frozen=True)
class Reply:
    """What the model wrote, and whether it was stopped by the limit of tokens."""

    text: str
    cut: bool


class _Bearer(AuthBase):
    """Sends the key; given as `auth`, so that no ~/.netrc takes its place."""

    def __init__(self, key: str | None) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key is not None:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, and whom; may be used by several threads.

    Failed connections, timeouts and the statuses 408, 429 and 5xx are repeated five times with growing pauses, or
    after the pause that the endpoint asks for.

    Attributes
    ----------
    url : str
        Up to and without ``/chat/completions``, such as ``https://host/v1``.
    model : str
        Name of the model there.
    key : str, optional
        Sent as a bearer token.
    timeout_seconds : float
        Of one reply.
    pause_seconds : float
        Before the second repetition; doubled before each further one.

    Raises
    ------
    InputError
        When the URL is none, holds a password, or would send the key unencrypted to another machine.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    timeout_seconds: float = 120.0
    pause_seconds: float = 1.0
    _of_thread: local = field(default_factory=local, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise InputError("--url", "is no address of an endpoint", "Give one such as https://host/v1.")
        if parts.username or parts.password:
            raise InputError("--url", "holds a user's name", f"Give the key in {KEY_VARIABLE} or --key-file.")
        if self.key is not None and parts.scheme == "http" and not _is_here(parts.hostname):
            raise InputError("--url", "would send the key unencrypted", "Use https, or leave the key out.")

    def ask(self, system: str, user: str, max_tokens: int) -> Reply:
        """Have one reply.

        Raises
        ------
        InputError
            When there is none after all repetitions, or the endpoint refuses.
        """
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        body: dict[str, Any] = {"model": self.model, "messages": messages, "max_tokens": max_tokens}
        place = f"--url {self.url}"
        try:
            with self._session().post(
                f"{self.url.rstrip('/')}/chat/completions",
                json=body,
                auth=_Bearer(self.key),
                timeout=(_CONNECT_SECONDS, self.timeout_seconds),
                allow_redirects=False,
            ) as response:
                status, content = response.status_code, _content(response)
        except requests.RequestException as error:
            raise InputError(
                place, f"gives no answer ({_cause(error)})", "Check the address, and start again."
            ) from None
        if status != 200:
            said = _said(content)
            raise InputError(place, f"refuses with status {status}{said}", "Check the key, the model and the address.")
        try:
            choice = content["choices"][0]
            return Reply(str(choice["message"]["content"] or ""), choice.get("finish_reason") == "length")
        except (KeyError, IndexError, TypeError, AttributeError):
            raise InputError(place, "answers in another form than chat/completions", "Check the address.") from None

    def _session(self) -> requests.Session:
        if not hasattr(self._of_thread, "session"):
            retry = Retry(
                _RETRIES,
                backoff_factor=self.pause_seconds,
                status_forcelist=_REPEATED,
                allowed_methods=None,
                raise_on_status=False,
            )
            session = requests.Session()
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(max_retries=retry))
            self._of_thread.session = session
        session = self._of_thread.session
        return session


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _content(response: requests.Response) -> Any:
    try:
        return response.json()
    except requests.JSONDecodeError:
        return None


def _said(content: Any) -> str:
    """The endpoint's own words about a refusal, if it has any."""
    error = content.get("error") if isinstance(content, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return f" ({message[:200]})" if isinstance(message, str) and message else ""


def _cause(error: requests.RequestException) -> str:
    names = {requests.Timeout: "timed out", requests.ConnectionError: "no connection"}
    return next((words for kind, words in names.items() if isinstance(error, kind)), type(error).__name__)
