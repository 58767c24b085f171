"""The way to a server, step by step: its name, a connection, TLS. Each step that fails explains all that follow."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from urllib.parse import urlsplit

from hub.doctor.checks import Finding, found
from hub.net import tls_context

STEP_SECONDS = 5.0
HELLO = b"OPTIONS / HTTP/1.1\r\nhost: %b\r\nconnection: close\r\n\r\n"

VERIFY_CODES = {
    9: "tls-not-yet-valid",
    10: "tls-expired",
    18: "tls-self-signed",
    19: "tls-unknown-issuer",
    62: "tls-hostname",
}
"""OpenSSL's words for a refused certificate; 20, 21 and others are all an unknown issuer."""

PLAIN_REASONS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"})


async def look(url: str) -> tuple[str, Finding | None]:
    """What was seen on the way to the host of a URL, and the first step that failed."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return "", found("dns", "The URL has no port that is one.")
    began = time.monotonic()
    try:
        addresses = await _resolved(host, port)
    except (OSError, UnicodeError, TimeoutError):
        return "", found("dns", f"{host} has no address here.")
    fault = await _connected(addresses[0], host, port)
    if fault is None and parts.scheme == "https":
        fault = await _secured(host, port)
    spent = (time.monotonic() - began) * 1000
    return f"{host} is {addresses[0]}, port {port} answers ({spent:.0f} ms)", fault


async def speaks_tls(url: str) -> bool:
    """Whether the port of an http URL answers to a TLS greeting."""
    parts = urlsplit(url)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # only to name the mistake: nothing is sent over it
    try:
        async with asyncio.timeout(STEP_SECONDS):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or 80, ssl=context)
    except (OSError, TimeoutError, ValueError):
        return False
    writer.transport.abort()
    return True


async def _resolved(host: str, port: int) -> list[str]:
    async with asyncio.timeout(STEP_SECONDS):
        told = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(one[4][0]) for one in told]


async def _connected(address: str, host: str, port: int) -> Finding | None:
    where = f"{host}, port {port}"
    try:
        async with asyncio.timeout(STEP_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return found("tcp-timeout", f"{where}: no connection within {STEP_SECONDS:.0f} s.")
    except ConnectionRefusedError:
        return found("tcp-refused", f"{where} ({address}) refuses connections.")
    except OSError as error:
        return found("unreachable", f"{where}: {error.strerror or type(error).__name__}.")
    writer.transport.abort()
    return None


async def _secured(host: str, port: int) -> Finding | None:
    where = f"{host}, port {port}"
    try:
        async with asyncio.timeout(STEP_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=tls_context())
    except ssl.SSLCertVerificationError as error:
        code = VERIFY_CODES.get(error.verify_code, "tls-unknown-issuer")
        return found(code, f"{where}: {error.verify_message}.")
    except (OSError, TimeoutError) as error:
        reason = error.reason if isinstance(error, ssl.SSLError) else ""
        if reason in PLAIN_REASONS or await _speaks_plainly(host, port):
            return found("plain-http-on-tls-port", f"{where} answers in plain HTTP.")
        why = f"no TLS within {STEP_SECONDS:.0f} s" if isinstance(error, TimeoutError) else reason or str(error)
        return found("tls-handshake", f"{where}: {why}.")
    writer.transport.abort()
    return None


async def _speaks_plainly(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(STEP_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(HELLO % host.encode("idna"))
                return (await reader.read(5)).startswith(b"HTTP/")
            finally:
                writer.transport.abort()
    except (OSError, UnicodeError, TimeoutError):
        return False
