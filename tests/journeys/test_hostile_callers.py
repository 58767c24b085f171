"""What a caller without a credential can do to a worker: very little, and not for long."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Generator

import pytest

from tests.support.installation import Installation, installed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Generator[Installation]:
    with installed(tmp_path_factory.mktemp("hostile")) as installation:
        yield installation


def talk(installation: Installation, data: bytes) -> bytes:
    """Send bytes on a connection of their own, and read until the hub closes it or has answered."""
    with socket.create_connection(("127.0.0.1", installation.port), timeout=30) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
        try:
            return connection.recv(65536)
        except ConnectionResetError:
            return b""


def test_headers_without_end_are_cut_off(bare: Installation) -> None:
    endless = b"GET /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\n" + b"x-filler: " + b"a" * 200_000
    assert talk(bare, endless)[:12] in (b"HTTP/1.1 431", b"")
    many = b"GET /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\n" + b"".join(b"x-%d: a\r\n" % one for one in range(20_000))
    assert talk(bare, many)[:12] in (b"HTTP/1.1 431", b"")


def test_ordinary_requests_pass_beside_it(bare: Installation) -> None:
    host = f"127.0.0.1:{bare.port}".encode()
    twice = b"GET /livez HTTP/1.1\r\nhost: " + host + b"\r\n\r\n"
    assert talk(bare, twice).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00\x01\x00", b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"])
def test_what_is_not_http_is_refused(bare: Installation, data: bytes) -> None:
    assert b" 200 " not in talk(bare, data)
