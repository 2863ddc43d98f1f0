"""The process `rc`, which Ctrl-C ends with one sentence from its first moment on, also while it loads."""

import os
import signal
import sys
from types import FrameType

INTERRUPTED = "interrupted; finished runs and saved epochs are kept, and the same command resumes."


def stop(number: int, frame: FrameType | None) -> None:
    """End the process where a module is being loaded, whose code can turn an interrupt into any other error.

    Raises: KeyboardInterrupt anywhere else.
    """
    while frame is not None:
        if "importlib._bootstrap" in frame.f_code.co_filename:
            os.write(2, f"error: {INTERRUPTED}\n".encode())
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt


def main() -> None:
    """Run the command line of this process."""
    sys.stdout, sys.stderr = (
        stream or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
        for stream in (sys.stdout, sys.stderr)  # closed: >&-
    )
    try:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else whoever started it has other plans
            signal.signal(signal.SIGINT, stop)
        from robust_cluster.cli import app  # late: it takes a third of a second

        app.main()
    except KeyboardInterrupt:
        sys.exit(130)
