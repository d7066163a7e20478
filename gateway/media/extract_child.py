"""Reads one file and says its text, or its image as PNG: alone in a process, within bounds, without a network.

    python -I extract_child.py <kind> < file > result

A whole program: it imports nothing of ours. The result is a line of JSON, `{"ok": true}` or `{"error": "…"}`, and after
it the text (UTF-8) or the image. Whatever a hostile file makes a parser do, this process alone bears it.
"""

from __future__ import annotations

import ctypes
import importlib
import io
import json
import resource
import sys
from collections.abc import Callable, Iterator
from typing import Any

MEMORY = 768 * 1024 * 1024
CPU_S = 20
FILES = 64
MOST_TEXT = 4 * 1024 * 1024
"""Characters of text; more than any model reads."""
MOST_PIXELS = 64_000_000
MOST_UNPACKED = 256 * 1024 * 1024
"""Bytes that an Office file may say it unpacks to."""
NEW_NETWORK = 0x10000000 | 0x40000000
"""CLONE_NEWUSER | CLONE_NEWNET of sched.h."""

NEEDS = {"pdf": "pypdf", "docx": "docx", "xlsx": "openpyxl", "pptx": "pptx", "xml": "defusedxml.ElementTree"}


class Refused(Exception):
    """The file is not what it should be; the text is shown to the caller."""


def confine() -> None:
    """Give up memory, time, files, processes and the network. What a system cannot limit, it does not."""
    leave_network()
    for what, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, FILES),
    ):
        try:
            resource.setrlimit(what, (most, most))
        except (ValueError, OSError):  # such as macOS and the size of the address space
            continue
    sys.addaudithook(_forbid)


def leave_network() -> None:
    """A network namespace of its own, with nothing in it, where the system lets anybody have one."""
    try:
        ctypes.CDLL(None).unshare(NEW_NETWORK)
    except (AttributeError, OSError):  # not Linux
        return


def _forbid(event: str, args: tuple[Any, ...]) -> None:
    if event.startswith(("socket.", "subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.system", "ctypes.")):
        raise PermissionError(event)
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        raise PermissionError(event)


def pdf(data: bytes) -> Iterator[str]:
    """The text of each page."""
    from pypdf import PdfReader

    reader = PdfReader(io.BytesIO(data))
    if reader.is_encrypted and not reader.decrypt(""):
        raise Refused("it is encrypted")
    for page in reader.pages:
        yield page.extract_text()


def docx(data: bytes) -> Iterator[str]:
    """Paragraphs, and the rows of tables, in their order."""
    from docx import Document
    from docx.table import Table

    for block in Document(io.BytesIO(unpacks(data))).iter_inner_content():
        if isinstance(block, Table):
            yield from ("\t".join(cell.text for cell in row.cells) for row in block.rows)
        else:
            yield block.text


def xlsx(data: bytes) -> Iterator[str]:
    """Each sheet's name and its rows, cells by tabs."""
    from openpyxl import load_workbook

    book = load_workbook(io.BytesIO(unpacks(data)), read_only=True, data_only=True)
    for sheet in book.worksheets:
        yield f"# {sheet.title}"
        for row in sheet.iter_rows(values_only=True):
            if any(cell is not None for cell in row):
                yield "\t".join("" if cell is None else str(cell) for cell in row)


def pptx(data: bytes) -> Iterator[str]:
    """Each slide's number, its texts, the rows of its tables."""
    from pptx import Presentation

    for number, slide in enumerate(Presentation(io.BytesIO(unpacks(data))).slides, 1):
        yield f"# {number}"
        for shape in slide.shapes:
            if shape.has_text_frame:
                yield shape.text_frame.text
            if shape.has_table:
                yield from ("\t".join(cell.text for cell in row.cells) for row in shape.table.rows)


def xml(data: bytes) -> Iterator[str]:
    """The document as it is, if it is one without entities of its own."""
    from defusedxml.ElementTree import fromstring

    fromstring(data)
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    yield data.decode(encoding, "replace")


def unpacks(data: bytes) -> bytes:
    """The same bytes, if their directory does not say that they are a bomb."""
    from zipfile import ZipFile

    with ZipFile(io.BytesIO(data)) as archive:
        if sum(member.file_size for member in archive.infolist()) > MOST_UNPACKED:
            raise Refused("it unpacks to too much")
    return data


def image(data: bytes, kind: str) -> bytes:
    """Nothing for an image that can go as it is, else the image as PNG."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # the bound is ours
    with Image.open(io.BytesIO(data), formats=[kind.upper()]) as opened:
        if opened.width * opened.height > MOST_PIXELS:
            raise Refused(f"it has more than {MOST_PIXELS} pixels")
        if kind not in {"bmp", "tiff"}:
            opened.verify()
            return b""
        made = io.BytesIO()
        opened.convert("RGBA" if "A" in opened.getbands() else "RGB").save(made, "PNG")
        return made.getvalue()


TEXTS: dict[str, Callable[[bytes], Iterator[str]]] = {"pdf": pdf, "docx": docx, "xlsx": xlsx, "pptx": pptx, "xml": xml}


def text(data: bytes, kind: str) -> bytes:
    """The text, up to its bound."""
    pieces, length = [], 0
    for piece in TEXTS[kind](data):
        pieces.append(piece)
        length += len(piece)
        if length > MOST_TEXT:
            break
    return "\n".join(pieces)[:MOST_TEXT].encode("utf-8", "replace")


def main() -> None:
    """Read, confine, parse, say."""
    kind, data = sys.argv[1], sys.stdin.buffer.read()
    importlib.import_module(NEEDS.get(kind, "PIL.Image"))
    confine()
    head: dict[str, Any] = {"ok": True}
    result = b""
    try:
        result = text(data, kind) if kind in TEXTS else image(data, kind)
    except Refused as error:
        head = {"error": str(error)}
    except MemoryError:
        head = {"error": "it needs too much memory"}
    except Exception as error:  # noqa: BLE001  whatever a parser makes of a broken file
        head = {"error": f"it cannot be read ({type(error).__name__})"}
    sys.stdout.buffer.write(json.dumps(head).encode() + b"\n" + result)


if __name__ == "__main__":
    main()
