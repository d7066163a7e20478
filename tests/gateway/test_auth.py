"""Who is calling, and the key that a public address makes for itself."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from gateway.auth import ANONYMOUS, Authenticator, RejectionLimiter, ensure_api_key, is_loopback
from gateway.config import ConfigError, Settings
from gateway.errors import Unauthorized
from gateway.redaction import Redactor
from gateway.tickets import Tickets
from tests.gateway.serving import KEY, Clock

API_KEY = "correct horse battery"


def authenticator(api_key: str | None = API_KEY) -> Authenticator:
    return Authenticator(api_key, Redactor(KEY), Tickets(Clock()))


def test_without_a_key_everyone_is_anonymous() -> None:
    assert authenticator(None).identify({"authorization": "Bearer not-needed"}) == ANONYMOUS
    assert not authenticator(None).keyed


def test_the_key_id_is_a_fingerprint_that_depends_on_the_installation() -> None:
    here = authenticator().identify({"x-api-key": API_KEY})
    there = Authenticator(API_KEY, Redactor(b"another" * 5), Tickets(Clock())).identify({"x-api-key": API_KEY})
    assert here.startswith("key-")
    assert len(here) == 16
    assert here != there


def test_one_right_header_is_enough() -> None:
    """Client libraries send a placeholder in one header and the real key in another."""
    headers = {"authorization": "Bearer not-needed", "api-key": API_KEY}
    assert authenticator().identify(headers) == authenticator().identify({"x-api-key": API_KEY})


@pytest.mark.parametrize("wrong", ["", API_KEY[:-1], API_KEY + " ", API_KEY.upper(), "\udcff\udcfe", "x" * 8000])
def test_a_wrong_key_is_refused(wrong: str) -> None:
    with pytest.raises(Unauthorized):
        authenticator().identify({"x-api-key": wrong})


def test_the_refusal_does_not_repeat_what_was_presented() -> None:
    with pytest.raises(Unauthorized) as refused:
        authenticator().identify({"x-api-key": "sk-somebody-elses-key"})
    assert "sk-somebody" not in refused.value.message


def test_at_most_so_many_refusals_a_minute_are_written_down() -> None:
    clock = Clock()
    limiter = RejectionLimiter(clock, per_minute=3)
    assert [limiter.admit() for _ in range(5)] == [True, True, True, False, False]
    assert limiter.suppressed == 2
    clock.now += 60
    assert limiter.admit()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1", "[::1]", "LOCALHOST"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.2", "example.com", "", "localhost.evil.example", "notlocalhost"]
)
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_a_public_address_gets_a_key_that_stays(tmp_path: Path) -> None:
    public = Settings(host="0.0.0.0", data_dir=tmp_path / "new")
    first, made = ensure_api_key(public)
    again, same = ensure_api_key(public)
    assert made is not None
    assert first.api_key == again.api_key == made == same
    assert len(made) >= 40
    assert stat.S_IMODE((tmp_path / "new" / "api_key").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["api_key"]


def test_two_installations_have_different_keys(tmp_path: Path) -> None:
    keys = {ensure_api_key(Settings(host="0.0.0.0", data_dir=tmp_path / name))[1] for name in "ab"}
    assert len(keys) == 2


@pytest.mark.parametrize(
    "settings",
    [
        Settings(host="127.0.0.1"),
        Settings(host="0.0.0.0", api_key="configured-key"),
        Settings(host="0.0.0.0", allow_unauthenticated=True),
    ],
)
def test_no_key_is_made_where_none_is_needed(settings: Settings, tmp_path: Path) -> None:
    assert ensure_api_key(settings) == (settings, None)


@pytest.mark.parametrize("key", ["", "\n", "1234567", " 1234567 "])
def test_a_key_file_with_no_usable_key_does_not_open_the_server(tmp_path: Path, key: str) -> None:
    (tmp_path / "api_key").write_text(key)
    with pytest.raises(ConfigError):
        ensure_api_key(Settings(host="0.0.0.0", data_dir=tmp_path))
