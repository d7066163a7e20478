"""An MCP server over stdio that says what no library would: `python -m tests.tools.raw_mcp HOW`."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

ANSWER = b'{"jsonrpc": "2.0", "id": %d, "result": {"content": [{"type": "text", "text": "%s"}]}}\n'
VERSION = "2025-06-18"


def write(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


def tell(call_id: int, result: Any) -> None:
    write(json.dumps({"jsonrpc": "2.0", "id": call_id, "result": result}).encode() + b"\n")


def text(call_id: int, said: bytes) -> None:
    write(ANSWER % (call_id, said))


def busy(call_id: int) -> None:
    """Hears nothing until a file is there."""
    while not Path(os.environ["GATE"]).exists():
        time.sleep(0.02)
    text(call_id, b"done")


def latin(call_id: int) -> None:
    text(call_id, b"caf\xe9")


def half(call_id: int) -> None:
    text(call_id, rb"\ud83d!")


def chatty(call_id: int) -> None:
    write(b"Server is running\n" * 3)
    text(call_id, b"ok")


def large(call_id: int) -> None:
    text(call_id, b"a" * int(os.environ["SIZE"]))


def mutters(call_id: int) -> None:
    print("my token is", os.environ["TOKEN"], file=sys.stderr)
    print("x" * 480, os.environ["TOKEN"], file=sys.stderr)
    print("that was it", file=sys.stderr, flush=True)
    text(call_id, b"ok")


def raves(call_id: int) -> None:
    for _ in range(2000):
        print("x" * 1000, file=sys.stderr)
    print("the end", file=sys.stderr, flush=True)
    text(call_id, b"ok")


def clings(call_id: int) -> None:
    """Has a child, and will not be told to end, nor will that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = os.fork()
    if not child:
        time.sleep(600)
    with Path(os.environ["PIDS"]).open("a") as file:
        file.write(f"{os.getpid()} {child} ")
    text(call_id, b"ok")
    if len(Path(os.environ["PIDS"]).read_text().split()) > 2:
        time.sleep(600)


def main(how: str) -> None:
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        method, call_id = asked["method"], asked.get("id")
        if method == "initialize":
            about = {"name": "raw", "version": "1"}
            tell(call_id, {"protocolVersion": VERSION, "capabilities": {"tools": {}}, "serverInfo": about})
        elif method == "tools/list":
            tell(call_id, {"tools": TOOLS[how] if how in TOOLS else [tool(how)]})
        elif method == "tools/call":
            name = asked["params"]["name"]
            tell(call_id, RESULTS[name]) if name in RESULTS else globals()[name](call_id)
        elif call_id is not None:
            write(
                json.dumps({"jsonrpc": "2.0", "id": call_id, "error": {"code": -32601, "message": "no"}}).encode()
                + b"\n"
            )


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "inputSchema": {"type": "object", "properties": {}}, **more}


def content(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"content": list(parts), **more}


EVIL = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}
TEXT = {"type": "text", "text": "t"}
RESULTS: dict[str, Any] = {
    "structured": content(structuredContent={"sky": "clear"}),
    "both": content(TEXT, structuredContent={"sky": "clear"}),
    "resource": content(TEXT, {"type": "resource", "resource": {"uri": "file:///a", "text": "in a file"}}),
    "blob": content({"type": "resource", "resource": {"uri": "file:///a", "blob": "aGk="}}),
    "link": content({"type": "resource_link", "uri": "file:///a", "name": "a"}),
    "image": content({"type": "image", "data": "aGk=", "mimeType": "image/png"}),
    "nothing": {},
    "prose": content("t"),  # type: ignore[arg-type]  # that is what it is for
    "evil": content(TEXT, structuredContent={"a": "a" * 40 + "!"}),
    "unstructured": content(TEXT),
}
TOOLS: dict[str, list[dict[str, Any]]] = {
    "results": [tool(name, **({"outputSchema": EVIL} if name in ("evil", "unstructured") else {})) for name in RESULTS],
    "none": [
        tool("fine"),
        tool("any", inputSchema={}),
        tool("lines", inputSchema={"type": "object", "properties": {"two\nlines": 1}}),
        tool("list", inputSchema={"type": "array"}),
        tool("mute", description=1),
        {"name": "bare"},
        {"inputSchema": {"type": "object"}},
        "word",  # type: ignore[list-item]
    ],
    "names": [tool("fine"), tool("with space"), tool("two\nlines"), tool("long" * 100)],
}

if __name__ == "__main__":
    main(sys.argv[1])
