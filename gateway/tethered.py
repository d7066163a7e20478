"""Run a program that dies with its parent: `python -I -S tethered.py PARENT_PID PROGRAM ARGUMENT…`.

Asks the kernel (Linux) for SIGKILL when the parent ends, however it ends, and then becomes the program; the request
survives `exec`. Run between fork and exec as a program of its own, since Python code there may deadlock. Elsewhere it
only becomes the program, and the parent's own care is all there is.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, and become the program."""
    parent, program = int(sys.argv[1]), sys.argv[2]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the kernel knew of our wish
        sys.exit(1)
    os.execv(program, sys.argv[2:])  # noqa: S606  the caller names the program by its full path


if __name__ == "__main__":
    main()
