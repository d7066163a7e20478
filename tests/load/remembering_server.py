"""The server of stalled readers with the deliberate bug that what an answer said is kept until its reader has it.

python -m tests.load.remembering_server ...
"""

from __future__ import annotations

import sys

from gateway.api.outlet import USUAL
from gateway.exchange.attempt import Attempt
from tests.load.impatient_server import main


def keep(attempt: Attempt) -> None:
    """Forget nothing."""


if __name__ == "__main__":
    Attempt.forget = keep  # type: ignore[method-assign]  # the bug
    main(str(USUAL.behind), "3", "100", *sys.argv[1:])
