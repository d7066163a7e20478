"""What is read out of real files; and what bombs cost: one child each."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gateway.errors import InvalidRequest
from gateway.media.extract import Extractor
from gateway.media.kinds import KINDS
from tests.gateway.media import made

XML = f"<a><b>{made.WORD}</b></a>".encode()
LAUGHS = b'<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;">]><a>&y;</a>'


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("pdf", made.pdf()), ("docx", made.word()), ("xlsx", made.sheet()), ("pptx", made.slides()), ("xml", XML),
        ("txt", made.WORD.encode("utf-16")), ("csv", b"\xef\xbb\xbfa,b\n" + made.WORD.encode()),
    ],
)  # fmt: skip
async def test_the_text_of_a_document(kind: str, data: bytes) -> None:
    assert made.WORD in await Extractor().text(data, KINDS[kind], "here")


async def test_tables_are_read_too() -> None:
    assert "left\tright" in await Extractor().text(made.word(), KINDS["docx"], "here")


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp", "bmp", "tiff"])
async def test_images_are_checked_and_those_that_no_model_takes_become_png(kind: str) -> None:
    result = await Extractor().image(made.image(kind), KINDS[kind], "here")
    assert (result is not None) == (kind in {"bmp", "tiff"})
    if result is not None:
        assert Image.open(io.BytesIO(result)).size == (4, 3)


@pytest.mark.parametrize(
    ("kind", "data", "why"),
    [
        ("docx", made.zip_bomb(300 << 20), "unpacks to too much"),
        ("xml", LAUGHS, "EntitiesForbidden"),
        ("pdf", b"%PDF-1.4 nothing of a PDF", "cannot be read"),
        ("xlsx", b"PK\x03\x04xl/", "cannot be read"),
    ],
)
async def test_what_is_hostile_or_broken_is_a_clear_refusal(kind: str, data: bytes, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        await Extractor().text(data, KINDS[kind], "messages[0].content[1]")


async def test_an_image_of_too_many_pixels_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="pixels"):
        await Extractor().image(made.pixel_bomb(), KINDS["png"], "here")


HOSTILE = {
    "eats memory": "held = [bytes(1 << 28) for _ in range(64)]",
    "opens a socket": "import socket; socket.socket()",
    "starts a program": "import subprocess; subprocess.run(['true'])",
    "writes a file": "open('/dev/shm/left-behind', 'w')",
    "dies": "import os; os.kill(os.getpid(), 9)",
}


@pytest.mark.parametrize("deed", HOSTILE.values(), ids=HOSTILE)
async def test_a_parser_that_is_taken_over_gets_nowhere(tmp_path: Path, deed: str) -> None:
    """The real child, its PDF reader replaced by the deed."""
    with pytest.raises(InvalidRequest):
        await taken_over(tmp_path, deed).text(made.pdf(), KINDS["pdf"], "here")


async def test_the_bounds_are_what_stops_it(tmp_path: Path) -> None:
    """The twin: a child that is not confined opens its socket."""
    extractor = taken_over(tmp_path, HOSTILE["opens a socket"], confined=False)
    assert await extractor.text(made.pdf(), KINDS["pdf"], "here") == "done"


def taken_over(folder: Path, deed: str, confined: bool = True) -> Any:
    source = Extractor.child.read_text()
    source = source.replace("    from pypdf import PdfReader\n", f"    {deed}\n    yield 'done'\n    return\n")
    if not confined:
        source = source.replace("    confine()\n", "")
    child = folder / "child.py"
    child.write_text(source)

    class TakenOver(Extractor):
        pass

    TakenOver.child = child
    return TakenOver()


async def test_the_same_file_is_read_once() -> None:
    extractor = Counting()
    first = await extractor.text(made.pdf(), KINDS["pdf"], "here")
    assert await extractor.text(made.pdf(), KINDS["pdf"], "there") == first
    assert extractor.runs == 1


class Counting(Extractor):
    runs = 0

    async def _run(self, *args: Any) -> bytes:
        self.runs += 1
        return await super()._run(*args)
