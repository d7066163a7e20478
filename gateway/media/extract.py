"""The text of a document, or the check of an image: by a child process, a few at a time, each result remembered."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import OrderedDict
from hashlib import sha256
from pathlib import Path

from gateway.errors import InvalidRequest
from gateway.media.kinds import Kind

CHILD = Path(__file__).with_name("extract_child.py")
AT_ONCE = 2
WALL_S = 30.0
REMEMBERED = 32 * 1024 * 1024
"""Bytes of results: an agent sends the same files again with each turn."""
_ENTRY = 256


class Extractor:
    """Runs the children. The event loop stays free, and a hostile file costs one child."""

    child = CHILD

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(AT_ONCE)
        self._known: OrderedDict[tuple[bytes, str], bytes] = OrderedDict()
        self._size = 0

    async def text(self, data: bytes, kind: Kind, where: str) -> str:
        """The text of a document or of a text file. `where` names the part in errors. Raises `InvalidRequest`."""
        if kind.form == "text":
            return decoded(data)
        return (await self._result(data, kind, where)).decode()

    async def image(self, data: bytes, kind: Kind, where: str) -> bytes | None:
        """The image as PNG where its kind is none that models take, None where it can go as it is. Raises
        `InvalidRequest` for what is no image, or too large a one."""
        return (await self._result(data, kind, where)) or None

    async def _result(self, data: bytes, kind: Kind, where: str) -> bytes:
        key = (sha256(data).digest(), kind.name)
        known = self._known.get(key)
        if known is None:
            async with self._room:
                known = self._known.get(key)
                if known is None:
                    known = await self._run(data, kind, where)
                    self._remember(key, known)
        if key in self._known:
            self._known.move_to_end(key)
        return known

    def _remember(self, key: tuple[bytes, str], result: bytes) -> None:
        if key in self._known:  # two read it at the same time
            return
        self._known[key] = result
        self._size += len(result) + _ENTRY
        while self._size > REMEMBERED:
            _, forgotten = self._known.popitem(last=False)
            self._size -= len(forgotten) + _ENTRY

    async def _run(self, data: bytes, kind: Kind, where: str) -> bytes:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-X", "utf8", str(self.child), kind.name,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env={},
        )  # fmt: skip
        try:
            async with asyncio.timeout(WALL_S):
                said, _ = await child.communicate(data)
        except TimeoutError as error:
            raise unreadable(kind, where, "it takes too long") from error
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        head, _, result = said.partition(b"\n")
        if child.returncode != 0 or not head:
            raise unreadable(kind, where, "it needs too much memory or time")
        if problem := json.loads(head).get("error"):
            raise unreadable(kind, where, str(problem))
        return result


def decoded(data: bytes) -> str:
    """A text file's text: UTF-8, UTF-16 if it says so, else Windows' Latin letters."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def unreadable(kind: Kind, where: str, why: str) -> InvalidRequest:
    """What a caller is told of a file that cannot be used."""
    return InvalidRequest(
        f"The {kind.name.upper()} file at {where} cannot be used: {why}.", param=where, code="bad_file"
    )
