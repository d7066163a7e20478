"""A chat body whose files its provider can carry: sources resolved, documents read, images checked.

What a provider can carry itself stands in its `traits`: `image_urls` (it fetches images), `pdf` (it reads PDFs),
`file_ids` (it issues ids of files). Everything else becomes an image as a data URL, or text.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeVar

from eventstore.value import value
from gateway.errors import InvalidRequest, TooLarge
from gateway.media.extract import Extractor
from gateway.media.fetch import Fetcher
from gateway.media.kinds import SUPPORTED, Kind, clean, default_name, detect
from gateway.media.local import LocalFiles
from gateway.media.parts import LARGEST_SUM, MOST_FILES, Found, data_of, find, inline_size, mentions, replaced
from gateway.upstreams.upstream import Provider

LARGEST_FILE = 10 * 1024 * 1024
AT_ONCE = 4
"""Files of one request that are fetched at the same time."""
_ASIDE = 256 * 1024
"""Base64 characters from which on they are decoded in a thread."""

T = TypeVar("T")


@value
class Attached:
    """A file as the model was given it. `source` is `inline`, `url` or `path`; `given_as` is `image`, `document` or
    `text`; `data` its bytes where the request has them not, `text` what was read out of it."""

    where: str
    source: str
    name: str
    media_type: str
    size: int
    digest: str
    given_as: str
    url: str | None = None
    data: bytes | None = None
    text: bytes | None = None


@value
class Prepared:
    """A body that can be said in the provider's words, and the files in it."""

    body: dict[str, Any]
    files: tuple[Attached, ...] = ()


@value
class _Read:
    """A file's bytes, and what they are."""

    found: Found
    data: bytes
    kind: Kind
    name: str


class _Room:
    """What is left for the files of one request, or for their texts: so many at a time, so many bytes together."""

    def __init__(self) -> None:
        self.gate = asyncio.Semaphore(AT_ONCE)
        self._left = LARGEST_SUM

    def take(self, size: int) -> None:
        """Raises `TooLarge`."""
        self._left -= size
        if self._left < 0:
            raise TooLarge(f"The files are over {LARGEST_SUM} bytes together.", param="messages")


@dataclass(frozen=True, slots=True)
class Media:
    """Prepares bodies. `hears`: audio goes to providers, else it is refused. `capabilities`: (provider, model) -> what
    is known that the model can, nothing where that is not known."""

    fetcher: Fetcher
    local: LocalFiles
    extractor: Extractor
    capabilities: Callable[[str, str], Collection[str]]
    hears: bool = True

    async def prepare(self, body: dict[str, Any], provider: Provider, model: str) -> Prepared:
        """Never mutates. Raises `InvalidRequest` for a file that cannot be had, read or carried, `TooLarge`."""
        found = [file for file in find(body) if not self._passes(file, provider)]
        if self.local.on:
            found += mentions(body)
        if not found:
            return Prepared(body)
        if len(found) > MOST_FILES:
            raise TooLarge(f"There are more than {MOST_FILES} files.", param="messages")
        read = await self._all(found)
        self._check_sight(read, provider, model)
        texts = _Room()
        given = await _all_of(self._given(file, provider, texts) for file in read)
        parts = [(file.found, part) for file, (part, _) in zip(read, given, strict=True)]
        return Prepared(replaced(body, parts), tuple(attached for _, attached in given))

    def _passes(self, file: Found, provider: Provider) -> bool:
        """Whether the part goes to the provider as it is."""
        if file.source == "audio":
            if not self.hears:
                raise InvalidRequest("This server takes no audio in chat.", param=file.where, code="audio_off")
            _check_size(inline_size(file), file.where)
            return True
        if file.source == "id":
            if "file_ids" not in provider.traits:
                raise InvalidRequest(
                    f"{provider.name} did not issue the id of {file.where}: send the file itself as file_data.",
                    param=f"{file.where}.file.file_id",
                    code="file_id_not_known",
                )
            return True
        return file.image and file.source == "url" and "image_urls" in provider.traits

    async def _all(self, found: list[Found]) -> list[_Read]:
        """The bytes of all of them, a few at a time."""
        room = _Room()
        read = await _all_of(self._one(file, room) for file in found)
        return [one for one in read if one is not None]

    async def _one(self, file: Found, room: _Room) -> _Read | None:
        async with room.gate:
            one = await self._read(file, LARGEST_FILE)
        if one is not None:
            room.take(len(one.data))
        return one

    async def _read(self, file: Found, limit: int) -> _Read | None:
        """None for a mention of no file, which is just text."""
        try:
            data, media_type = await self._data(file, limit)
        except InvalidRequest:
            if file.part < 0:
                return None
            raise
        _check_size(len(data), file.where)
        kind = detect(data, file.name, media_type)
        if kind is None or (file.image and kind.form != "image"):
            wanted = "an image" if file.image else f"one of {SUPPORTED}"
            raise InvalidRequest(f"The file at {file.where} is not {wanted}.", param=file.where, code="bad_file_type")
        return _Read(file, data, kind, clean(file.name or default_name(kind)))

    async def _data(self, file: Found, limit: int) -> tuple[bytes, str | None]:
        if file.source == "url":
            return await self.fetcher.fetch(file.ref, file.where, limit)
        if file.source == "path":
            return await asyncio.to_thread(self.local.read, file.ref, file.where, limit), None
        if inline_size(file) > LARGEST_FILE + 256:
            _check_size(inline_size(file), file.where)
        if len(file.ref) > _ASIDE:
            return await asyncio.to_thread(data_of, file)
        return data_of(file)

    def _check_sight(self, read: list[_Read], provider: Provider, model: str) -> None:
        """Raises `InvalidRequest` for an image, where it is known that the model sees none."""
        known = self.capabilities(provider.name, model)
        blind = "completion" in known and "vision" not in known  # in the words of Ollama, which tells both
        image = next((file.found for file in read if file.kind.form == "image"), None)
        if blind and image is not None:
            raise InvalidRequest(
                f"{model} cannot see images: choose a model with vision.", param=image.where, code="no_vision"
            )

    async def _given(self, file: _Read, provider: Provider, texts: _Room) -> tuple[Mapping[str, Any], Attached]:
        """The part that takes the file's place, and what is recorded of it. A small file can hold a large text."""
        where, kind = file.found.where, file.kind
        if kind.form == "image":
            png = await self.extractor.image(file.data, kind, where)
            url = _data_url(kind.media_type, file.data) if png is None else _data_url("image/png", png)
            return {"type": "image_url", "image_url": {"url": url}}, _attached(file, "image")
        if kind.native and "pdf" in provider.traits:
            inner = {"filename": file.name, "file_data": _data_url(kind.media_type, file.data)}
            return {"type": "file", "file": inner}, _attached(file, "document")
        text = await self.extractor.text(file.data, kind, where)
        data = text.encode()
        texts.take(len(data))
        said = f'<file name="{file.name}">\n{text}\n</file>'
        return {"type": "text", "text": said}, _attached(file, "text", data)


async def _all_of(wanted: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What all of them give. The first that fails ends the others."""
    tasks = [asyncio.create_task(each) for each in wanted]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _attached(file: _Read, given_as: str, text: bytes | None = None) -> Attached:
    found = file.found
    return Attached(
        where=found.where,
        source=found.source,
        name=file.name,
        media_type=file.kind.media_type,
        size=len(file.data),
        digest=sha256(file.data).hexdigest(),
        given_as=given_as,
        url=found.ref if found.source != "inline" else None,
        data=None if found.source == "inline" else file.data,
        text=text,
    )


def _data_url(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{b64encode(data).decode()}"


def _check_size(size: int, where: str) -> None:
    if size > LARGEST_FILE:
        raise TooLarge(f"The file at {where} is over {LARGEST_FILE} bytes.", param=where, code="file_too_large")
