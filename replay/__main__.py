"""`python -m replay` and `abstractcore-replay`."""

from __future__ import annotations

import gc
import os
import sys

from replay import cli

GC_THRESHOLD = (50_000, 20, 100)
"""Rows die by reference count; looking for cycles among them every 700 costs a tenth of the time."""


def main() -> int:
    """Run the command line. A reader that closes the pipe early (`| head`) is no error."""
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)
    try:
        code = cli.run(sys.argv[1:], os.environ)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the flush at exit has somewhere to go
        return cli.OK
    except KeyboardInterrupt:
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
