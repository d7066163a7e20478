"""`python -m replay` and `abstractcore-replay`."""

from __future__ import annotations

import gc
import io
import os
import sys
from pathlib import Path

from replay import cli

GC_THRESHOLD = (50_000, 20, 100)
"""Rows die by reference count; looking for cycles among them every 700 costs a tenth of the time."""
INTERRUPTED = 130
"""As a shell has it for a process that Ctrl-C ended."""


def main() -> int:
    """Run the command line. A reader that closes the pipe early (`| head`) is no error."""
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)
    _prepare_streams()
    try:
        code = cli.run(sys.argv[1:], os.environ)
    except BrokenPipeError:
        code = cli.OK
    except KeyboardInterrupt:
        code = INTERRUPTED
    return _flushed(code)


def _prepare_streams() -> None:
    """Text that the encoding of the terminal lacks is written as escapes; a stream that was closed (`>&-`) is none."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115  until the process ends
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _flushed(code: int) -> int:
    """The exit code, once all is written; 1 where it cannot be, as on a full disk."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the flush at exit has somewhere to go
        if not isinstance(error, BrokenPipeError):
            print(f"abstractcore-replay: the output cannot be written: {error}", file=sys.stderr)
            return cli.FINDINGS
    return code


if __name__ == "__main__":
    sys.exit(main())
