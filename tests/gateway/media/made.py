"""Real files, made on the spot."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from base64 import b64encode

import docx
import openpyxl
import pptx
from PIL import Image

WORD = "Xylophone"


def image(kind: str) -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (4, 3), (200, 30, 30)).save(made, kind)
    return made.getvalue()


def pdf(text: str = WORD) -> bytes:
    """One page, written by hand: five objects and their table."""
    stream = b"BT /F1 12 Tf 20 100 Td (" + text.encode() + b") Tj ET"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    made, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(made))
        made += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    end = b"xref\n0 6\n0000000000 65535 f \n" + table
    return made + end + b"trailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % len(made)


def word() -> bytes:
    document = docx.Document()
    document.add_paragraph(f"{WORD} in a paragraph")
    table = document.add_table(1, 2)
    table.cell(0, 0).text, table.cell(0, 1).text = "left", "right"
    made = io.BytesIO()
    document.save(made)
    return made.getvalue()


def sheet() -> bytes:
    book = openpyxl.Workbook()
    book.active.append([WORD, 42])
    made = io.BytesIO()
    book.save(made)
    return made.getvalue()


def slides() -> bytes:
    deck = pptx.Presentation()
    deck.slides.add_slide(deck.slide_layouts[5]).shapes.title.text = WORD
    made = io.BytesIO()
    deck.save(made)
    return made.getvalue()


def zip_bomb(unpacked: int) -> bytes:
    """A Word file whose document is so many bytes of nothing."""
    made = io.BytesIO(word())
    with zipfile.ZipFile(made, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("word/bomb.xml", "w") as member:
        for _ in range(unpacked >> 20):
            member.write(bytes(1 << 20))
    return made.getvalue()


def pixel_bomb(side: int = 60_000) -> bytes:
    """A PNG whose head promises more pixels than there is memory for."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")


def data_url(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{b64encode(data).decode()}"
