"""`python -m replay` and `abstractcore-replay`."""

from __future__ import annotations

import os
import sys

from replay import cli


def main() -> int:
    """Run the command line. A reader that closes the pipe early (`| head`) is no error."""
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
