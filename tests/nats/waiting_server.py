"""The server that waits for its past longer than the real one: a busy machine takes longer than that to ask NATS."""

from __future__ import annotations

import runpy
import sys

from gateway.recovery import Recovery

if __name__ == "__main__":
    Recovery.past_within_s = Recovery.lost_within_s = 60.0
    sys.argv[0] = "gateway"
    runpy.run_module("gateway", run_name="__main__")
