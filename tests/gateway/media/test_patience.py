"""The files of one request have so much time together, whatever their servers do."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import Settings
from gateway.errors import RequestTimeout
from gateway.exchange.files import Files
from gateway.exchange.plan import Planner
from gateway.exchange.submit import Caller, Rules, submit
from gateway.media.extract import Extractor
from gateway.media.fetch import Fetcher
from gateway.media.local import LocalFiles
from gateway.media.prepare import Media
from gateway.redaction import Redactor
from gateway.upstreams.anthropic import Anthropic
from gateway.upstreams.http import HttpClient
from gateway.upstreams.registry import providers
from gateway.wire.dialects import CHAT
from tests.gateway.exchange.given import ID
from tests.gateway.scripted import Script, ScriptedServer


async def test_a_server_that_never_answers_is_not_waited_for(tmp_path: Path) -> None:
    settings = Settings(anthropic_api_key="sk-ant-test", data_dir=tmp_path)
    redactor, fetcher = Redactor(b"k" * 32), Fetcher(frozenset({"127.0.0.1"}))
    media = Media(fetcher, LocalFiles(None), Extractor(), lambda provider, model: ())
    upstreams = {"anthropic": Anthropic(HttpClient("n"))}
    files = Files(Planner(providers(settings), upstreams, redactor, None, dict), media, redactor)
    files.patience_s = 0.2
    async with ScriptedServer() as web:
        web.script("GET /a.txt", Script(b"x", hold=True))
        part = {"type": "file", "file": {"file_url": f"{web.base_url}/a.txt"}}
        body = {"model": "anthropic/claude", "messages": [{"role": "user", "content": [part]}]}
        caller, rules = Caller(ID, "/v1/chat/completions", "anonymous", None, {}), Rules(redactor, None, (), True)
        submission = submit(caller, body, b"{}", rules, CHAT, body)
        assert files.asked(submission)
        with pytest.raises(RequestTimeout):
            await files.prepared(submission)
    await fetcher.close()
