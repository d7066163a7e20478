"""The second process: whatever reads the log without deciding anything, kept away from the gateway's event loop.

`supervise.py` is the gateway's side, `process.py` the other; between them lies a socket pair that carries lines of
JSON, described in `channel.py`.
"""
