"""The fetcher reaches the public internet and nothing else, whatever a URL, a name or a redirect says."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import nullcontext
from typing import Any

import pytest
import pytest_asyncio
from yarl import URL

from gateway.errors import InvalidRequest, TooLarge
from gateway.media.addresses import is_public
from gateway.media.fetch import Fetcher, NotPublic, PublicResolver, _refused
from tests.gateway.scripted import Script, ScriptedServer

INSIDE = [
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1", "192.0.0.1",
    "192.0.0.192", "168.63.129.16", "192.168.1.1", "192.88.99.1", "198.18.0.1", "203.0.113.9", "224.0.0.1", "240.0.0.1",
    "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "64:ff9b::7f00:1",
    "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::1", "fc00::1", "fd00:ec2::254", "fe80::1",
    "fe80::1%eth0", "fec0::1", "ff02::1", "2606:4700:4700::1111%eth0", "not an address", "127.1", "2130706433",
]  # fmt: skip
OUTSIDE = ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:1.1.1.1"]


@pytest.mark.parametrize("address", INSIDE)
def test_addresses_inside(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", OUTSIDE)
def test_addresses_outside(address: str) -> None:
    assert is_public(address)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as made:
        made.script("GET /a.txt", Script(b"canary", content_type="text/plain; charset=utf-8"))
        yield made


def fetcher(names: Mapping[str, list[str]], allowed: Any = (), cls: type[Fetcher] = Fetcher) -> Fetcher:
    """One for which these names resolve so, and all others as on this machine."""

    class Named(PublicResolver):
        async def look_up(self, host: str, port: int, family: socket.AddressFamily) -> list[str]:
            return names[host] if host in names else await super().look_up(host, port, family)

    class Made(cls):  # type: ignore[valid-type,misc]  # the class is an argument
        resolver = Named

    return Made(allowed)


def place(server: ScriptedServer) -> str:
    return server.base_url.removeprefix("http://")


async def test_an_allowed_host_is_fetched_without_credentials(server: ScriptedServer) -> None:
    made = fetcher({}, {place(server)})
    assert await made.fetch(f"{server.base_url}/a.txt", "here", 100) == (b"canary", "text/plain")
    await made.close()
    assert not {"authorization", "cookie", "referer"} & {name.lower() for name in server.requests[0].headers}


FORBIDDEN = [
    "http://127.0.0.1:{port}/a.txt", "http://localhost:{port}/a.txt", "http://2130706433:{port}/a.txt",
    "http://0x7f000001:{port}/a.txt", "http://0177.0.0.1:{port}/a.txt", "http://127.1:{port}/a.txt",
    "http://[::1]:{port}/a.txt", "http://[::ffff:127.0.0.1]:{port}/a.txt", "http://inside.test:{port}/a.txt",
    "http://mixed.test:{port}/a.txt", "http://public.test@127.0.0.1:{port}/a.txt", "http://u:p@public.test/a.txt",
    "http://public.test:22/", "http://127.0.0.1/", "http://[::1]/", "http://2130706433/", "http://0x7f.1/",
    "http://localhost/", "http://localhost./", "http://inside.test/", "http://mixed.test/", "http://mapped.test/",
    "http://169.254.169.254/latest/meta-data/", "http://[64:ff9b::a9fe:a9fe]/", "http://0/", "http:///a", "http://",
    "ftp://public.test/a", "file:///etc/passwd", "http://\uff11\uff12\uff17.0.0.1/",
]  # fmt: skip
REFUSED = _refused("here").message
NAMES = {"inside.test": ["127.0.0.1"], "mixed.test": ["1.1.1.1", "127.0.0.1"], "mapped.test": ["::ffff:127.0.0.1"]}


@pytest.mark.parametrize("url", FORBIDDEN)
async def test_nothing_inside_is_reached(server: ScriptedServer, url: str) -> None:
    made = fetcher(NAMES)
    with pytest.raises(InvalidRequest) as refused:
        await made.fetch(url.format(port=place(server).split(":")[1]), "here", 100)
    await made.close()
    assert server.requests == []
    assert refused.value.error_code == "url_not_allowed", "it was not even tried"
    assert refused.value.message == REFUSED, "nobody learns which names there are"


async def test_what_is_no_url_is_refused() -> None:
    made = fetcher({})
    with pytest.raises(InvalidRequest):
        await made.fetch("http://public.test:99999/", "here", 100)
    await made.close()


LOOKS = [
    ("http://1.1.1.1/a", True), ("https://1.1.1.1/a", True), ("http://public.test/a", True),
    ("https://[2606:4700:4700::1111]/a", True), ("http://1.1.1.1:443/a", True), ("http://1.1.1.1:22/", False),
    ("http://public.test:8080/", False), ("https://[2606:4700:4700::1111]:6379/", False), ("http://[::1]/", False),
    ("http://[fd00:ec2::254]/", False), ("http://u@1.1.1.1/", False), ("http://:p@1.1.1.1/", False),
    ("http://u:p@public.test/", False), ("ftp://1.1.1.1/", False), ("ws://1.1.1.1/", False),
]  # fmt: skip


@pytest.mark.parametrize(("url", "may"), LOOKS)
@pytest.mark.parametrize("hop", [0, 1, 3])
def test_what_a_url_alone_says(url: str, may: bool, hop: int) -> None:
    with nullcontext() if may else pytest.raises(InvalidRequest):
        Fetcher().check(URL(url), "here", hop)


@pytest.mark.parametrize("credentials", ["u:p@", "u@", ":p@"])
async def test_an_allowed_host_gets_no_credentials_of_the_url_either(server: ScriptedServer, credentials: str) -> None:
    made = fetcher({}, {place(server)})
    with pytest.raises(InvalidRequest) as refused:
        await made.fetch(f"http://{credentials}{place(server)}/a.txt", "here", 100)
    await made.close()
    assert (refused.value.error_code, server.requests) == ("url_not_allowed", [])


RESOLVED: list[tuple[list[str], bool]] = [
    (["1.1.1.1"], True), (["1.1.1.1", "2606:4700:4700::1111"], True), ([], False), (["127.0.0.1"], False),
    (["1.1.1.1", "127.0.0.1"], False), (["127.0.0.1", "1.1.1.1"], False), (["1.1.1.1", "::ffff:10.0.0.1"], False),
]  # fmt: skip


@pytest.mark.parametrize(("addresses", "may"), RESOLVED)
async def test_a_name_is_public_where_all_its_addresses_are(addresses: list[str], may: bool) -> None:
    class Named(PublicResolver):
        async def look_up(self, host: str, port: int, family: socket.AddressFamily) -> list[str]:
            return addresses

    with nullcontext() if may else pytest.raises(NotPublic):
        found = await Named(()).resolve("some.test", 80)
        assert [each["host"] for each in found] == addresses


HOPS = ["http://127.0.0.1:{port}/a.txt", "//inside.test/a", "http://[::1]/", "file:///etc/passwd", "http://mixed.test/"]


@pytest.mark.parametrize("target", HOPS)
async def test_a_redirect_leads_nowhere_inside(server: ScriptedServer, target: str) -> None:
    with pytest.raises(InvalidRequest):
        await redirected(server, target, Fetcher)
    assert [request.path for request in server.requests] == ["/start"]


@pytest.mark.parametrize("hops", [1, 2])
async def test_each_redirect_is_looked_at(server: ScriptedServer, hops: int) -> None:
    port = place(server).split(":")[1]
    for hop in range(1, hops):
        server.script(f"GET /{hop}", Script(status=302, headers={"Location": f"/{hop + 1}"}))
    server.script(f"GET /{hops}", Script(status=302, headers={"Location": HOPS[0].format(port=port)}))
    with pytest.raises(InvalidRequest) as refused:
        await redirected(server, "/1", Fetcher)
    assert refused.value.error_code == "url_not_allowed"
    assert [request.path for request in server.requests] == ["/start", *(f"/{hop}" for hop in range(1, hops + 1))]


async def test_a_check_of_the_first_hop_alone_is_noticed(server: ScriptedServer) -> None:
    """The twin: redirects are followed without a look at where they lead."""

    class FirstHopOnly(Fetcher):
        def check(self, url: URL, where: str, hop: int) -> None:
            if hop == 0:
                super().check(url, where, hop)

    assert (await redirected(server, HOPS[0], FirstHopOnly))[0] == b"canary"


async def redirected(server: ScriptedServer, target: str, cls: type[Fetcher]) -> tuple[bytes, str | None]:
    """An allowed name, whose server sends its visitors on."""
    port = place(server).split(":")[1]
    server.script("GET /start", Script(status=302, headers={"Location": target.format(port=port)}))
    made = fetcher({**NAMES, "allowed.test": ["127.0.0.1"]}, {"allowed.test"}, cls)
    try:
        return await made.fetch(f"http://allowed.test:{port}/start", "here", 100)
    finally:
        await made.close()


async def test_a_good_redirect_is_followed_and_a_circle_is_not(server: ScriptedServer) -> None:
    server.script("GET /on", Script(status=302, headers={"Location": "/a.txt"}))
    server.script("GET /round", Script(status=302, headers={"Location": "/round"}))
    made = fetcher({}, {place(server)})
    assert (await made.fetch(f"{server.base_url}/on", "here", 100))[0] == b"canary"
    with pytest.raises(InvalidRequest, match="redirected"):
        await made.fetch(f"{server.base_url}/round", "here", 100)
    await made.close()


async def test_a_large_file_and_an_error_are_told_and_not_shown(server: ScriptedServer) -> None:
    server.script("GET /error", Script(b"canary", status=500))
    made = fetcher({}, {place(server)})
    with pytest.raises(TooLarge):
        await made.fetch(f"{server.base_url}/a.txt", "here", 3)
    with pytest.raises(InvalidRequest, match="answered 500") as failed:
        await made.fetch(f"{server.base_url}/error", "here", 100)
    await made.close()
    assert "canary" not in str(failed.value)
