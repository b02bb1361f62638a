"""How an object store is reached: endpoint, region, credentials and patience, from the standard environment only."""

import os
import re
from pathlib import Path
from typing import Any, Literal

from storage.errors import InputError

CONNECT_SECONDS = 10.0
_ENDPOINT = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(:\d{1,5})?(/[^@?#\s]*)?")
_TRUE = ("1", "true", "yes")
_OWN_ROLE = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


class Unconditional(Exception):
    """The server knows no conditional PUTs."""


def lease_seconds() -> float:
    """Silence that frees a lock: ``E2LLM_S3_LEASE_SECONDS``, else 180, which is above the patience."""
    return _seconds("E2LLM_S3_LEASE_SECONDS", 180.0)


def stalled_seconds() -> float:
    """Silence after which a request is repeated: ``E2LLM_S3_STALLED_SECONDS``, else 30."""
    return _seconds("E2LLM_S3_STALLED_SECONDS", 30.0)


def patience_seconds() -> float:
    """Time after which repeating is given up: ``E2LLM_S3_PATIENCE_SECONDS``, else 120."""
    return _seconds("E2LLM_S3_PATIENCE_SECONDS", 120.0)


def endpoint() -> str | None:
    """URL of the server; None for Amazon's own.

    Raises
    ------
    InputError
        When it is none, or holds credentials.
    """
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if url := os.environ.get(name):
            if not _ENDPOINT.fullmatch(url):
                raise InputError(name, "is not the URL of a server", "Set http(s)://host or http(s)://host:port.")
            return url.rstrip("/")
    return None


def region() -> str:
    """Region of the bucket."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"


def credentials_kind() -> Literal["anonymous", "environment"] | None:
    """Where TensorStore finds credentials; None for all the places that it knows."""
    if os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in _TRUE:
        return "anonymous"
    if os.environ.get("AWS_ACCESS_KEY_ID") and os.environ.get("AWS_SECRET_ACCESS_KEY"):
        return "environment"
    return None


def credentials(place: str) -> dict[str, Any]:
    """Arguments by which `obstore` finds credentials; it reads the environment and the machine's role itself.

    Raises
    ------
    InputError
        When there are none, or only those of a profile.
    """
    kind = credentials_kind()
    if kind == "anonymous":
        return {"skip_signature": True}
    if kind == "environment" or any(os.environ.get(name) for name in _OWN_ROLE):
        return {}
    if os.environ.get("AWS_PROFILE") or _shared_file().exists():
        raise InputError(
            place,
            "the credentials are in an AWS profile, and profiles are not read",
            'Run: eval "$(aws configure export-credentials --format env)".',
        )
    if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() in _TRUE:
        raise InputError(place, "no credentials for the object store", _REMEDY)
    return {}


_REMEDY = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public bucket."


def _shared_file() -> Path:
    return Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser()


def _seconds(name: str, default: float) -> float:
    text = os.environ.get(name) or str(default)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86_400:
        raise InputError(name, f"{text!r} is not a number of seconds", "Set a number above 0, or leave it out.")
    return seconds
