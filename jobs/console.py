"""How a command ends: one rule for every entry point.

Status 0 is success, 2 a refusal the user can fix (one ``error:`` line each, no traceback),
1 any other failure, 130 and 143 an interrupt or a termination after everything was cleaned up,
75 (EX_TEMPFAIL) a run that was asked to stop and can be resumed: start it again.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, ParamSpec

from cluster.train.stopping import Stopped
from storage.errors import InputError

P = ParamSpec("P")


@contextmanager
def exit_discipline() -> Iterator[None]:
    """Turn refusals and signals into exit statuses; SIGTERM unwinds the stack like Ctrl-C does.

    Raises
    ------
    SystemExit
        With the status described in the module's first lines.
    """
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except Stopped as stopped:
        print(f"stopped with a checkpoint, start the job again to go on: {stopped}", file=sys.stderr)
        raise SystemExit(os.EX_TEMPFAIL) from None
    except Exception as error:
        # A refusal raised in a Ray worker arrives wrapped, with the refusal as its cause.
        refusal = next((e for e in (getattr(error, "cause", None), error) if isinstance(e, InputError)), None)
        if refusal is None:
            raise
        refuse(refusal)
    finally:
        signal.signal(signal.SIGTERM, previous)


def disciplined(command: Callable[P, None]) -> Callable[P, None]:
    """Give a command these exit statuses."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        with exit_discipline():
            command(*args, **kwargs)

    return wrapped


def refuse(error: InputError) -> NoReturn:
    """Print a refusal, one ``error:`` line for each problem, and exit with status 2."""
    for line in str(error).splitlines():
        print(f"error: {line}", file=sys.stderr)
    raise SystemExit(2)


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + signum)
