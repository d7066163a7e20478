"""Nothing secret is recorded: a canary in every place of the one list."""

from __future__ import annotations

import copy
import stat
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.redaction import (
    CREDENTIAL_FIELDS,
    CREDENTIAL_HEADERS,
    CREDENTIAL_PARAMETERS,
    HEADER_FIELDS,
    RECORDED_HEADERS,
    URL_FIELDS,
    Redactor,
    load_key,
)
from tests.gateway.serving import KEY

CANARY = 'sk-canary/4f9a+"quoted"'


def redactor() -> Redactor:
    return Redactor(KEY, [CANARY])


def holders(field: str, value: Any) -> list[dict[str, Any]]:
    """A body with the field at each place where it can stand."""
    messages = [{"role": "user", "content": "hello"}]
    return [
        {"model": "m", "messages": messages, field: value},
        {"model": "m", "messages": messages, "extra_body": {field: value}},
        {"model": "m", "messages": messages, "tools": [{"type": "function"}, {"type": "mcp", field: value}]},
        {"model": "m", "messages": messages, "mcp_servers": [{"name": "x", field: value}]},
        {"model": "m", "messages": messages, "extra_body": {"tools": [{"type": "mcp", field: value}]}},
    ]


BODIES = [
    *(body for field in sorted(CREDENTIAL_FIELDS) for body in holders(field, CANARY)),
    *(body for field in sorted(CREDENTIAL_FIELDS) for body in holders(field, {"nested": [CANARY]})),
    *(body for field in sorted(HEADER_FIELDS) for body in holders(field, {"Anything": CANARY})),
    *(body for field in sorted(HEADER_FIELDS) for body in holders(field, [["X", CANARY]])),
    *(body for field in sorted(URL_FIELDS) for body in holders(field, "https://user:sk-canary@host/path")),
    *(
        body
        for field in sorted(URL_FIELDS)
        for name in sorted(CREDENTIAL_PARAMETERS)
        for body in holders(field, f"https://host/p?a=1&{name.upper()}=sk-canary&b=2#end")
    ),
]


@pytest.mark.parametrize("body", BODIES)
def test_no_canary_survives_in_any_field(body: dict[str, Any]) -> None:
    before = copy.deepcopy(body)
    recorded = Redactor(KEY).body(body)
    assert b"canary" not in orjson.dumps(recorded)
    assert b"redacted:" in orjson.dumps(recorded)
    assert body == before


def test_what_was_once_a_credential_stays_one() -> None:
    """The lists are what the other tests go by: what is taken out of one would be missed by them too."""
    assert {
        "access_token", "api-key", "apiKey", "api_key", "apikey", "authorization", "authorization_token",
        "provider_api_key",
    } <= CREDENTIAL_FIELDS  # fmt: skip
    assert {"headers", "extra_headers", "default_headers"} <= HEADER_FIELDS
    assert {"server_url", "base_url", "api_base", "url"} <= URL_FIELDS
    assert {
        "access_token", "api-key", "api_key", "apikey", "auth", "authorization", "client_secret", "key", "password",
        "secret", "sig", "signature", "subscription-key", "token", "x-amz-credential", "x-amz-security-token",
        "x-amz-signature", "x-goog-credential", "x-goog-signature",
    } <= CREDENTIAL_PARAMETERS  # fmt: skip
    assert {
        "authorization", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key", "x-auth-token",
        "x-amz-security-token", "x-abstractcore-provider-api-key", "ocp-apim-subscription-key", "cookie", "set-cookie",
    } <= CREDENTIAL_HEADERS  # fmt: skip


def test_a_redactor_that_forgets_a_field_is_caught() -> None:
    """The deliberate bug."""

    class Forgetful(Redactor):
        def _field(self, name: str, value: Any) -> Any:
            return value if name == "authorization" else super()._field(name, value)

    leaked = [body for body in BODIES if b"canary" in orjson.dumps(Forgetful(KEY).body(body))]
    assert leaked
    assert all("authorization" in str(body) for body in leaked)


def test_a_body_without_credentials_is_the_same_object() -> None:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "what is an api_key? https://u:p@host/?key=1"}],
        "tools": [
            {
                "type": "function",
                "function": {"name": "f", "parameters": {"properties": {"api_key": {"type": "string"}}}},
            }
        ],
        "extra_body": {"top_k": 1},
    }
    assert Redactor(KEY).body(body) is body


def test_an_absent_credential_stays_absent() -> None:
    assert Redactor(KEY).body({"api_key": None, "base_url": "http://localhost:1/v1"}) == {
        "api_key": None,
        "base_url": "http://localhost:1/v1",
    }


def test_the_same_secret_has_the_same_mark_here_and_another_elsewhere() -> None:
    one, two = (Redactor(KEY).body({"api_key": CANARY})["api_key"] for _ in range(2))
    assert one == two == Redactor(KEY).mark(CANARY)
    assert one != Redactor(b"x" * 32).mark(CANARY)
    assert len(one) == len("redacted:") + 12


def test_headers_are_recorded_by_an_allow_list() -> None:
    given = {name.title(): "canary-value" for name in CREDENTIAL_HEADERS} | {
        "X-Unheard-Of": "canary-value",
        "User-Agent": "OpenAI/Python 3.52.0",
        "X-Stainless-Lang": "python",
        "X-Stainless-Canary": "canary-value",
    }
    assert Redactor(KEY).headers(given) == {"user-agent": "OpenAI/Python 3.52.0", "x-stainless-lang": "python"}
    assert not CREDENTIAL_HEADERS & RECORDED_HEADERS


def test_a_held_secret_is_cut_out_of_a_recorded_header_too() -> None:
    assert CANARY not in redactor().headers({"User-Agent": f"curl {CANARY}", "Accept": "*/*"})["user-agent"]


@pytest.mark.parametrize(
    "text",
    [
        f"Incorrect API key provided: {CANARY}.",
        orjson.dumps({"error": {"message": f"key {CANARY} is wrong"}}).decode(),
        "https://host/?x=sk-canary%2F4f9a%2B%22quoted%22",
        orjson.dumps(CANARY).decode().replace("/", "\\/"),
    ],
)
def test_a_held_secret_is_cut_out_of_texts_however_it_is_written(text: str) -> None:
    assert "sk-canary" not in redactor().text(text)
    assert b"sk-canary" not in redactor().bytes(text.encode())


def test_bytes_of_any_kind_are_scrubbed() -> None:
    assert (
        redactor().bytes(b"\xff\x00" + CANARY.encode() + b"\xfe")
        == b"\xff\x00" + redactor().mark(CANARY).encode() + b"\xfe"
    )
    clean = b"data: {}\n\n"
    assert redactor().bytes(clean) is clean


def test_a_callers_own_secret_is_cut_out_by_its_scrubber() -> None:
    scrubber = Redactor(KEY).scrubber(["sk-the-callers-key"])
    assert b"callers" not in scrubber.bytes(b'{"error":"bad key sk-the-callers-key"}')
    assert "callers" not in scrubber.text("bad key sk-the-callers-key")


def test_a_secret_of_eight_characters_is_cut_out() -> None:
    assert "sk-12345" not in Redactor(KEY, ["sk-12345"]).text("bad key sk-12345")


def test_a_secret_inside_another_goes_with_the_longer_one() -> None:
    scrubber = Redactor(KEY).scrubber(["sk-abcdefgh", "sk-abcdefgh-longer"])
    assert scrubber.text("sk-abcdefgh-longer") == Redactor(KEY).mark("sk-abcdefgh-longer")


@pytest.mark.parametrize("word", ["EMPTY", "not-needed", "lm-studio", "x"])
def test_placeholders_are_words_and_stay(word: str) -> None:
    assert Redactor(KEY, [word]).text(f"the text says {word} here") == f"the text says {word} here"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://localhost:1234/v1", "http://localhost:1234/v1"),
        ("https://h/p?model=a&page=2", "https://h/p?model=a&page=2"),
    ],
)
def test_a_url_without_credentials_stays(url: str, shown: str) -> None:
    assert Redactor(KEY).url(url) == shown


def test_urls_in_texts_lose_their_credentials() -> None:
    text = Redactor(KEY).text("cannot reach https://bob:canary@host/v1?key=canary#x, see http://docs")
    assert "canary" not in text
    assert "@host/v1" in text
    assert text.endswith("see http://docs")


@pytest.mark.parametrize("name", ["api%5Fkey", "api%5fKEY", "%6bey", "X-Amz-Signatur%65"])
def test_a_credentials_parameter_is_known_however_its_name_is_written(name: str) -> None:
    assert "canary" not in Redactor(KEY).url(f"https://host/p?{name}=sk-canary&b=2")


def test_what_was_redacted_stays_as_it_is() -> None:
    once = Redactor(KEY).url("https://bob:canary@host/v1?key=canary")
    assert Redactor(KEY).url(once).partition("?")[2] == once.partition("?")[2]


def test_the_installations_key_is_made_once_and_private(tmp_path: Path) -> None:
    first = load_key(tmp_path / "data")
    assert first == load_key(tmp_path / "data")
    assert len(first) == 32
    assert stat.S_IMODE((tmp_path / "data" / "redaction.key").stat().st_mode) == 0o600
