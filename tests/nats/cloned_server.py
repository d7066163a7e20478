"""The server in a machine that was cloned with all its randomness: it begins the incarnation that its twin began."""

from __future__ import annotations

import runpy
import sys

from eventstore import database

if __name__ == "__main__":
    database._random = lambda length: "z" * length
    sys.argv[0] = "gateway"
    runpy.run_module("gateway", run_name="__main__")
