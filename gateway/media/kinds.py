"""What a file is, by its first bytes and its name; and what it is called. Pure.

The first bytes beat the name and the declared type, which callers and servers get wrong. Only text has no first bytes
of its own: there the name and the declared type decide.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal
from urllib.parse import unquote, urlsplit

from eventstore.value import value

Form = Literal["image", "document", "text"]
"""What becomes of it: an image stays one, a document is read by a child process, text is text."""


@value
class Kind:
    """A type of file. `native`: its bytes can go to models as they are."""

    name: str
    media_type: str
    form: Form
    native: bool = False


_OFFICE = "application/vnd.openxmlformats-officedocument"
KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("png", "image/png", "image", native=True),
        Kind("jpeg", "image/jpeg", "image", native=True),
        Kind("gif", "image/gif", "image", native=True),
        Kind("webp", "image/webp", "image", native=True),
        Kind("bmp", "image/bmp", "image"),
        Kind("tiff", "image/tiff", "image"),
        Kind("pdf", "application/pdf", "document", native=True),
        Kind("docx", f"{_OFFICE}.wordprocessingml.document", "document"),
        Kind("xlsx", f"{_OFFICE}.spreadsheetml.sheet", "document"),
        Kind("pptx", f"{_OFFICE}.presentationml.presentation", "document"),
        Kind("xml", "application/xml", "document"),
        Kind("csv", "text/csv", "text"),
        Kind("tsv", "text/tab-separated-values", "text"),
        Kind("txt", "text/plain", "text"),
        Kind("md", "text/markdown", "text"),
        Kind("json", "application/json", "text"),
    )
}
SUPPORTED = ", ".join(name.upper() for name in KINDS)

_ENDINGS = {"jpg": "jpeg", "tif": "tiff", "markdown": "md", "text": "txt"}
_TYPES = {kind.media_type: kind.name for kind in KINDS.values()} | {
    "image/jpg": "jpeg",
    "image/x-ms-bmp": "bmp",
    "text/json": "json",
    "text/x-markdown": "md",
    "text/xml": "xml",
}
_MAGIC = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "png"),
    (re.compile(rb"\xff\xd8\xff"), "jpeg"),
    (re.compile(rb"GIF8[79]a"), "gif"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "webp"),
    (re.compile(rb"BM.{12}[\x0c\x28\x40\x6c\x7c]\0\0\0", re.DOTALL), "bmp"),
    (re.compile(rb"II\x2a\0|MM\0\x2a"), "tiff"),
    (re.compile(rb"%PDF-"), "pdf"),
)
_FOLDERS = ((b"word/", "docx"), (b"xl/", "xlsx"), (b"ppt/", "pptx"))
"""What the names in an Office file's directory, which is a zip archive's last part, begin with."""
_ZIP = b"PK\x03\x04"
_LONGEST_NAME = 200
_NAME_END = re.compile(r"\.([A-Za-z0-9]{1,8})$")
_UNFIT = re.compile(r'[\x00-\x1f\x7f"<>\\/]')


def detect(data: bytes, name: str | None, media_type: str | None) -> Kind | None:
    """The kind of these bytes; None for what is none of ours."""
    for magic, known in _MAGIC:
        if magic.match(data):
            return KINDS[known]
    if data.startswith(_ZIP):
        return next((KINDS[known] for folder, known in _FOLDERS if folder in data), None)
    said = _said(name, media_type)
    if b"\0" in data[:4096] and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return None
    if said is not None:
        kind = KINDS[said]
        return kind if kind.form == "text" or said == "xml" else None
    return KINDS["txt"] if (media_type or "").startswith("text/") else None


def _said(name: str | None, media_type: str | None) -> str | None:
    ending = _NAME_END.search(name or "")
    if ending is not None:
        known = ending[1].lower()
        known = _ENDINGS.get(known, known)
        if known in KINDS:
            return known
    return _TYPES.get(media_type or "")


def name_of_url(url: str) -> str | None:
    """The last step of a URL's or a local path's path: `https://example.com/a/report.pdf?x=1` is `report.pdf`."""
    try:
        path = urlsplit(url).path if "://" in url else url
    except ValueError:
        return None
    return clean(unquote(path.rstrip("/").rpartition("/")[2])) or None


def default_name(kind: Kind) -> str:
    """For a file without a name: `document.pdf`, `image.png`."""
    return f"{'image' if kind.form == 'image' else 'document'}.{'jpg' if kind.name == 'jpeg' else kind.name}"


def clean(name: str) -> str:
    """A name that fits on a line, in quotes, and holds no path."""
    return _UNFIT.sub("_", name)[-_LONGEST_NAME:]
