"""Process of one step, ``python -m jobs.cross_validation.step SPEC [key.path=value ...]``; it ends with its parent.

The parent waits for the step and can tell it to stop. A parent that is killed cannot; the operating system then ends
the step as well, so that it does not hold the lock of its run when the parent is started again.
"""

import ctypes
import os
import signal
import sys
from contextlib import suppress

_PR_SET_PDEATHSIG = 1
_PARENT = "E2LLM_PARENT_PROCESS"


def variables() -> dict[str, str]:
    """Environment variables that tell a step's process its parent, which is this process."""
    return {_PARENT: str(os.getpid())}


def end_with_parent() -> None:
    """Have Linux end this process when its parent ends; on other systems, a step outlives a killed parent."""
    with suppress(AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.environ.pop(_PARENT, None) not in (None, str(os.getppid())):
        sys.exit(128 + signal.SIGKILL)


if __name__ == "__main__":
    end_with_parent()
    from jobs.__main__ import main

    main()
