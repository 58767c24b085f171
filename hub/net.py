"""The only door to URLs that a person or a server chose: the SSRF guard, and a small client behind it.

A name is resolved once, every address is judged, and the connection goes to the judged address itself, so a name
that answers differently the second time gains nothing. Redirects go through the same door without any exemption,
and keep no credential across origins. Stands on the lowest layer, so it has errors of its own:

    NetError
    ├── UrlRefused       the URL may not be visited; nothing was sent
    ├── Unreachable      no connection, or it broke
    ├── TimedOut         no whole answer in time
    └── AnswerRefused    too large, compressed against our word, or redirected once too often
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urljoin, urlsplit

import anyio
import httpx

PORTS = {"http": 80, "https": 443}
RESOLVE_SECONDS = 5.0
FETCH_SECONDS = 20.0
LARGEST_ANSWER = 8 * 2**20
LONGEST_URL = 4096
REDIRECTS = 5
KEPT_ACROSS_ORIGINS = frozenset({"accept", "accept-language", "user-agent"})
"""An allow-list: credentials also hide in headers that nobody has heard of."""

NAT64 = IPv6Network("64:ff9b::/96")
GLOBAL_UNICAST = IPv6Network("2000::/3")
NOT_PUBLIC = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
"""Inside global unicast, yet not the public network: protocol assignments with Teredo, documentation, 6to4."""

NOT_PUBLIC_4 = tuple(map(IPv4Network, ("192.0.0.0/24", "192.88.99.0/24", "100.64.0.0/10")))
"""What `is_global` of Python 3.11 judges otherwise, or judges differently from one patch release to the next."""

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Name and port to addresses, as literals."""


class NetError(Exception):
    """Base of this module's errors. The message may be shown to whoever chose the URL."""


class UrlRefused(NetError):
    """The URL is malformed, or leads where only an administrator may point."""


class Unreachable(NetError):
    """No connection could be made, or it broke."""


class TimedOut(NetError):
    """There was no whole answer within the time."""


class AnswerRefused(NetError):
    """The answer broke a bound."""


@dataclass(frozen=True, slots=True)
class ResolvedAddress:
    """Where a checked URL leads: connect to `address`, and use `host` for TLS and the Host header."""

    scheme: str
    host: str
    port: int
    address: str

    @property
    def origin(self) -> str:
        """Scheme, host and port, in one normal form."""
        return f"{self.scheme}://{_bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole answer, and the URL that gave it after redirects."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


def tls_context() -> ssl.SSLContext:
    """The one TLS configuration; building it costs some 20 ms, so make it once and share it."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def origin_of(url: str) -> str:
    """The normal form of a URL's origin, as `allowed_origins` holds it. Raises `UrlRefused`."""
    parts, port = _parsed(url)
    return f"{parts.scheme}://{_bracketed(_host(parts))}:{port}"


def is_public(literal: str) -> bool:
    """Whether an address belongs to the public network, whatever it is wrapped in."""
    try:
        address = ip_address(literal.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped
        if inner is None and address in NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is None:
            return address in GLOBAL_UNICAST and not any(address in network for network in NOT_PUBLIC)
        address = inner
    if any(address in network for network in NOT_PUBLIC_4):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


async def resolve(host: str, port: int) -> list[str]:
    """All addresses of a name, by the system's resolver. Raises `Unreachable` or `TimedOut`."""
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError as error:
        raise TimedOut(f"{host} was not resolved in {RESOLVE_SECONDS:g} s.") from error
    except (OSError, UnicodeError) as error:
        raise Unreachable(f"{host} has no address.") from error
    return [str(one[4][0]) for one in found]


async def check_url(url: str, allowed_origins: Collection[str] = (), resolver: Resolve = resolve) -> ResolvedAddress:
    """Judge a URL and pin its address. `allowed_origins` (see `origin_of`) are exempt from the ban on private ones.

    Raises `UrlRefused` where any of the name's addresses is not public: which one a client would take is chance.
    """
    parts, port = _parsed(url)
    host = _host(parts)
    addresses = await resolver(host, port)
    if not addresses:
        raise Unreachable(f"{host} has no address.")
    where = ResolvedAddress(parts.scheme, host, port, addresses[0])
    if where.origin not in allowed_origins and not all(map(is_public, addresses)):
        raise UrlRefused(f"{where.origin} is not on the public network; only an administrator can allow it.")
    return where


class GuardedClient:
    """Fetches URLs that somebody else chose. Owned by whoever made it; `close` gives its sockets back."""

    def __init__(self, tls: ssl.SSLContext, resolver: Resolve = resolve) -> None:
        self._resolver = resolver
        # No connection is kept: the pool would be keyed by address, and share one verified for another name.
        self._transport = httpx.AsyncHTTPTransport(
            verify=tls, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0, max_connections=100)
        )

    async def close(self) -> None:
        """Close what is open."""
        await self._transport.aclose()

    async def fetch(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
        allowed_origins: Collection[str] = (),
        seconds: float = FETCH_SECONDS,
        largest: int = LARGEST_ANSWER,
    ) -> Fetched:
        """The whole answer of `url`, redirects followed. Raises `NetError`."""
        try:
            with anyio.fail_after(seconds):
                return await self._follow(url, method, dict(headers or {}), content, allowed_origins, largest)
        except TimeoutError as error:
            raise TimedOut(f"There was no whole answer in {seconds:g} s.") from error

    async def _follow(
        self,
        url: str,
        method: str,
        headers: dict[str, str],
        content: bytes,
        allowed_origins: Collection[str],
        largest: int,
    ) -> Fetched:
        where = await check_url(url, allowed_origins, self._resolver)
        for _ in range(REDIRECTS + 1):
            answer = await self._exchange(where, url, method, headers, content, largest)
            location = answer.headers.get("location")
            if answer.status not in (301, 302, 303, 307, 308) or not location:
                return answer
            url = urljoin(url, location)
            if answer.status == 303 or (answer.status in (301, 302) and method == "POST"):
                method, content = "GET" if method != "HEAD" else method, b""
                headers = {name: value for name, value in headers.items() if name.lower() != "content-type"}
            if origin_of(url) == where.origin:
                continue
            if where.scheme == "https" and not url.startswith("https:"):
                raise UrlRefused("The answer redirects from https to http.")
            if content:
                raise UrlRefused("The answer redirects a request with a body to another origin.")
            # No exemption: what an administrator typed does not vouch for where its answers point.
            where = await check_url(url, (), self._resolver)
            headers = {name: value for name, value in headers.items() if name.lower() in KEPT_ACROSS_ORIGINS}
        raise AnswerRefused(f"The answer redirects more than {REDIRECTS} times.")

    async def _exchange(
        self, where: ResolvedAddress, url: str, method: str, headers: Mapping[str, str], content: bytes, largest: int
    ) -> Fetched:
        parts = urlsplit(url)
        target = f"{where.scheme}://{_bracketed(where.address)}:{where.port}{parts.path or '/'}"
        sent = {name: value for name, value in headers.items() if name.lower() not in ("host", "accept-encoding")}
        sent["Host"] = parts.netloc
        # Compressed answers are refused rather than unpacked: a few kilobytes can become gigabytes.
        sent["Accept-Encoding"] = "identity"
        try:
            request = httpx.Request(
                method,
                target + (f"?{parts.query}" if parts.query else ""),
                headers=sent,
                content=content or None,
                extensions={"sni_hostname": where.host},
            )
            response = await self._transport.handle_async_request(request)
            try:
                body = await _read(response, largest)
            finally:
                with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                    await response.aclose()
        except (httpx.TransportError, httpx.InvalidURL, ssl.SSLError, OSError) as error:
            raise Unreachable(f"{where.origin}: {type(error).__name__}") from error
        return Fetched(response.status_code, response.headers, body, url)


async def _read(response: httpx.Response, largest: int) -> bytes:
    if response.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
        raise AnswerRefused("The answer is compressed although that was declined.")
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > largest:
            raise AnswerRefused(f"The answer is larger than {largest} bytes.")
    return bytes(body)


def _parsed(url: str) -> tuple[SplitResult, int]:
    # Characters that parsers read differently are refused before any parser sees them.
    if len(url) > LONGEST_URL or "\\" in url or any(letter <= " " or letter == "\x7f" for letter in url):
        raise UrlRefused("The URL is too long or has characters that no URL has.")
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise UrlRefused("The URL is malformed.") from error
    if parts.scheme not in PORTS or not parts.hostname:
        raise UrlRefused("Only http and https URLs with a host can be visited.")
    if "@" in parts.netloc:
        raise UrlRefused("A URL with a user name or password in it is not visited.")
    return parts, port


def _host(parts: SplitResult) -> str:
    return (parts.hostname or "").rstrip(".").lower()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
