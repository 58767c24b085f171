"""The door to foreign URLs: what it refuses, where it connects, and what it does not carry along."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from hub import net
from hub.net import (
    AnswerRefused,
    GuardedClient,
    NetError,
    TimedOut,
    Unreachable,
    UrlRefused,
    check_url,
    is_public,
    origin_of,
)

pytestmark = pytest.mark.anyio

PUBLIC = "93.184.215.14"


class Names:
    """A resolver that answers from a table and counts: each name's answers, one list per question."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self.answers = {name.replace("_", "."): lists for name, lists in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        lists = self.answers.get(host)
        if lists is None:
            return await net.resolve(host, port)
        return lists.pop(0) if len(lists) > 1 else lists[0]


@asynccontextmanager
async def site(answer: Callable[[bytes], bytes | Awaitable[bytes]]) -> AsyncGenerator[tuple[int, list[bytes]]]:
    """A raw HTTP server on loopback: its port, and the requests it got."""
    requests: list[bytes] = []

    async def handle(stream: SocketStream) -> None:
        async with stream:
            request = await stream.receive()
            while b"\r\n\r\n" not in request:
                request += await stream.receive()
            requests.append(request)
            made = answer(request)
            try:
                await stream.send(made if isinstance(made, bytes) else await made)
            except anyio.BrokenResourceError:
                return

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)
    async with anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        yield port, requests
        group.cancel_scope.cancel()
    await listener.aclose()


@asynccontextmanager
async def client(names: Names | None = None) -> AsyncGenerator[GuardedClient]:
    client = GuardedClient(ssl.create_default_context(), names or net.resolve)
    yield client
    await client.close()


def reply(body: bytes = b"hello", status: str = "200 OK", **headers: str) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body


def redirect(location: str, status: str = "302 Found") -> bytes:
    return reply(b"", status, Location=location)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.1.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.0.8",
        "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "::7f00:1",
        "::ffff:127.0.0.1", "::ffff:a00:1", "::ffff:169.254.169.254",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1",
        "2002:7f00:1::1", "2002:a00:1::", "2001::1", "2001:db8::1", "100::1", "not-an-address", "",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_known_in_every_wrapping(address: str) -> None:
    """CVE-2026-54450 (NAT64), CVE-2026-42449 (IPv4-mapped), and the rest of the family."""
    assert not is_public(address)


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://127.1/", "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/",
        "http://localhost/", "http://LOCALHOST./", "http://[::1]/", "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/", "http://169.254.169.254/latest/meta-data", "http://0/", "http://10.0.0.1:8080/",
    ],
)  # fmt: skip
async def test_no_spelling_of_a_private_host_passes(url: str) -> None:
    with anyio.fail_after(10), pytest.raises(NetError):
        await check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "", "file:///etc/passwd", "gopher://a.example/", "http://", "https:///x", "//a.example/", "http://u:p@a.example/",
        "http://a.example\\@127.0.0.1/", "http://a.example:99999/", "http://a.example/\r\nX: y", "http://a .example/",
        "http://a.example/\0", "http://[::1", "http://a.example/" + "a" * 5000, "unix:///run/x.sock",
    ],
)  # fmt: skip
async def test_malformed_and_foreign_urls_are_refused_before_anything_is_resolved(url: str) -> None:
    names = Names()
    with pytest.raises(UrlRefused):
        await check_url(url, (), names)
    assert names.asked == []


async def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    with pytest.raises(UrlRefused):
        await check_url("https://a.example/", (), Names(a_example=[[PUBLIC, "10.0.0.1"]]))
    where = await check_url("https://A.example./x", (), Names(a_example=[[PUBLIC]]))
    assert (where.address, where.host, where.port, where.origin) == (PUBLIC, "a.example", 443, "https://a.example:443")


async def test_an_administrator_s_exemption_is_for_exactly_that_origin() -> None:
    names = Names(a_example=[["10.0.0.1"]])
    allowed = {origin_of("http://a.example:8080/mcp")}
    assert (await check_url("http://a.example:8080/other", allowed, names)).address == "10.0.0.1"
    for url in ("http://a.example/", "https://a.example:8080/", "http://b.a.example:8080/", "http://10.0.0.1:8080/"):
        names.answers["b.a.example"] = [["10.0.0.1"]]
        with pytest.raises(UrlRefused):
            await check_url(url, allowed, names)


async def test_the_judged_address_is_the_one_connected_to() -> None:
    """CVE-2026-57112: a name that is checked, then resolved again (rebinding between the two)."""
    async with site(lambda _: reply()) as (port, requests):
        names = Names(a_example=[["127.0.0.1"], ["10.255.255.1"]])
        url = f"http://a.example:{port}/x?y=1"
        async with client(names) as http:
            answer = await http.fetch(url, allowed_origins={origin_of(url)}, seconds=5)
        assert (answer.status, answer.body, answer.url) == (200, b"hello", url)
        assert names.asked == ["a.example"]
        assert requests[0].startswith(b"GET /x?y=1 HTTP/1.1\r\n") and f"Host: a.example:{port}".encode() in requests[0]


async def test_a_redirect_to_a_private_address_is_refused_even_from_an_exempt_origin() -> None:
    async with site(lambda _: reply(b"secret")) as (inner, inner_requests):
        async with site(lambda _: redirect(f"http://127.0.0.1:{inner}/")) as (port, _), client() as http:
            url = f"http://127.0.0.1:{port}/"
            both = {origin_of(url), origin_of(f"http://127.0.0.1:{inner}")}
            with pytest.raises(UrlRefused):
                await http.fetch(url, allowed_origins=both, seconds=5)
        assert inner_requests == []


async def test_credentials_do_not_cross_origins(monkeypatch: pytest.MonkeyPatch) -> None:
    """CVE-2026-53840: custom authentication headers that followed a redirect."""
    # Loopback has to pass for public here, as there is no second public machine to redirect to.
    monkeypatch.setattr(net, "is_public", lambda literal: True)  # pyright: ignore
    async with site(lambda _: reply()) as (other, other_requests):
        async with site(lambda _: redirect(f"http://127.0.0.1:{other}/")) as (port, _), client() as http:
            headers = {"Authorization": "Bearer s", "X-Grafana-Token": "s", "Cookie": "s=s", "Accept": "text/plain"}
            assert (await http.fetch(f"http://127.0.0.1:{port}/", headers=headers, seconds=5)).status == 200
            again = redirect(f"http://127.0.0.1:{other}/", "307 Temporary Redirect")
            async with site(lambda _: again) as (third, _):
                with pytest.raises(UrlRefused, match="body"):
                    await http.fetch(f"http://127.0.0.1:{third}/", method="POST", content=b"client_secret=s", seconds=5)
        (seen,) = other_requests
        assert b"text/plain" in seen
        assert all(word not in seen.lower() for word in (b"bearer", b"grafana", b"cookie"))


async def test_redirects_within_the_origin_keep_the_credential_and_end_somewhere() -> None:
    def answer(request: bytes) -> bytes:
        return redirect("/b") if request.startswith(b"GET /a ") else reply()

    async with site(answer) as (port, requests), client() as http:
        url = f"http://127.0.0.1:{port}/a"
        found = await http.fetch(url, headers={"Authorization": "x"}, allowed_origins={origin_of(url)}, seconds=5)
        assert found.url.endswith("/b") and b"authorization: x" in requests[1].lower()
    async with site(lambda _: redirect("/")) as (port, requests), client() as http:
        with pytest.raises(AnswerRefused):
            await http.fetch(f"http://127.0.0.1:{port}/", allowed_origins={f"http://127.0.0.1:{port}"}, seconds=5)
        assert len(requests) == net.REDIRECTS + 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (reply(b"x" * 2000), AnswerRefused),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"400\r\n" + b"x" * 1024 + b"\r\n", AnswerRefused),
        (reply(b"x", Content_Encoding="gzip"), AnswerRefused),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", Unreachable),
        (b"nonsense\r\n\r\n", Unreachable),
        (b"", Unreachable),
    ],
)
async def test_answers_that_break_a_bound_are_refused(answer: bytes, error: type[NetError]) -> None:
    async with site(lambda _: answer) as (port, _), client() as http:
        with pytest.raises(error):
            await http.fetch(
                f"http://127.0.0.1:{port}/", allowed_origins={f"http://127.0.0.1:{port}"}, largest=1000, seconds=5
            )


async def test_a_silent_server_costs_no_more_than_the_time_given() -> None:
    async def never(_: bytes) -> bytes:
        await anyio.sleep_forever()
        raise AssertionError

    with anyio.fail_after(5):
        async with site(never) as (port, _), client() as http:
            with pytest.raises(TimedOut):
                await http.fetch(f"http://127.0.0.1:{port}/", allowed_origins={f"http://127.0.0.1:{port}"}, seconds=0.1)


async def test_environment_proxies_are_not_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with site(lambda _: reply()) as (port, _), client() as http:
        url = f"http://127.0.0.1:{port}/"
        assert (await http.fetch(url, allowed_origins={origin_of(url)}, seconds=5)).status == 200
