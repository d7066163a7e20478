"""The server with the deliberate bug: it publishes prices before its past had time to come back."""

from __future__ import annotations

import runpy
import sys

from gateway.recovery import Recovery

if __name__ == "__main__":
    Recovery.past_within_s = Recovery.lost_within_s = 0.0
    sys.argv[0] = "gateway"
    runpy.run_module("gateway", run_name="__main__")
