"""The corpus: each entry is wrong in one way, and says the name that the doctor must find."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.misconfigured import web
from tests.support.misconfigured.certificates import Authority
from tests.support.misconfigured.mcp import TOOL, Mcp, page
from tests.support.misconfigured.web import AS, PRM, Declared, metadata, only, protected, secured, served

BAD_SCHEMA = TOOL | {"name": "bad", "inputSchema": {"type": "object", "properties": {"a": {"type": "strnig"}}}}
API: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "API", "version": "1"},
    "paths": {"/things": {"get": {"operationId": "things", "responses": {"200": {"description": "all"}}}}},
}
SITE = {"/openapi.json": API}
ELSEWHERE = {"type": "object", "$ref": "https://example.com/schema.json"}
OLD, NEW = ("legacy",), ("modern",)
WANTS, FAILS = "auth-required", ("crash-at-start",)
METHODS, REGISTERS = "code_challenge_methods_supported", "registration_endpoint"
NOBODY = "http://127.0.0.1:9/mcp"
RIGHT = {"Authorization": "Bearer right"}


@dataclass(frozen=True)
class Surroundings:
    """What the entries stand in: an authority that the hub trusts, one that it does not, and a folder."""

    trusted: Authority
    foreign: Authority
    folder: Path


@dataclass(frozen=True)
class Seeded:
    """One misconfiguration. `also` may be found beside `code`; anything else would be a false alarm."""

    title: str
    code: str
    made: Callable[[Surroundings], AbstractAsyncContextManager[Declared]]
    also: tuple[str, ...] = ()


def _http(title: str, code: str, behaviour: Any, *also: str, path: str = "/mcp", **declared: Any) -> Seeded:
    return Seeded(title, code, lambda _: served(behaviour, path, **declared), also)


def _tls(title: str, code: str, **certificate: Any) -> Seeded:
    return Seeded(title, code, lambda around: secured(around.trusted, **certificate))


def _header(title: str, code: str, value: str, *also: str) -> Seeded:
    wants = Mcp(before=protected(token="right"))
    return _http(title, code, wants, "auth-rejected", "prm-missing", *also, headers={"Authorization": value})


def _child(title: str, code: str, source: str, *also: str, **declared: Any) -> Seeded:
    command = [sys.executable, "-c", source]
    return Seeded(title, code, lambda _: only(command=command, **declared), also)


def _command(title: str, code: str, *command: str, also: tuple[str, ...] = ()) -> Seeded:
    return Seeded(title, code, lambda _: only(command=list(command)), also)


DECLARATIONS = (
    _header("a token without its scheme", "header-scheme-missing", "right-token-0123456789"),
    _header("a token in quotes", "secret-quoted", 'Bearer "right"'),
    _header("a variable that nobody expands", "secret-placeholder", "Bearer ${MY_TOKEN}"),
    _header("the example's words for a token", "secret-placeholder", "Bearer YOUR_API_KEY"),
    _child(
        "a secret with the file's line break", "secret-whitespace", "pass", "ends-at-once", env={"API_KEY": "abc\n"}
    ),
    Seeded("the example's URL", "address-placeholder", lambda _: only(url="https://your-server.invalid/mcp"), ("dns",)),
)

CONNECTIONS = (
    Seeded("a host that is misspelt", "dns", lambda _: only(url="http://no-such-host.invalid/mcp")),
    Seeded("a port where nothing listens", "tcp-refused", lambda _: only(url=NOBODY), ("loopback-in-container",)),
    Seeded("a firewall that drops", "tcp-timeout", lambda _: web.unheard()),
    _tls("a certificate that has expired", "tls-expired", since=-20, until=-1),
    _tls("a certificate that is not valid yet", "tls-not-yet-valid", since=5),
    _tls("a certificate for another name", "tls-hostname", host="other.test"),
    _tls("a certificate signed by itself", "tls-self-signed", by_itself=True),
    Seeded("an unknown authority", "tls-unknown-issuer", lambda around: secured(around.foreign)),
    Seeded("https to a port of plain HTTP", "plain-http-on-tls-port", lambda _: web.plain_as_tls()),
    Seeded("TLS that comes to nothing", "tls-handshake", lambda _: web.plain_as_tls(web.hangs_up)),
    Seeded("http to a port of TLS", "tls-on-plain-port", lambda around: secured(around.trusted, "http")),
)  # fmt: skip

ANSWERS = (
    _http("a server that is stuck", "silent", web.says_nothing),
    _http("a server that hangs up", "hangs-up", web.hangs_up),
    Seeded("an SSH server", "not-http", lambda _: web.greeting_first(b"SSH-2.0-OpenSSH_9.6\r\n")),
    _http("a URL that has moved", "redirect", Mcp(before=web.always(308, more={"location": "/v2/mcp"}))),
    _http("the host's root for the endpoint", "wrong-path", Mcp(), path="/"),
    _http("a path with a slip in it", "wrong-path", Mcp(), path="/mpc"),
    _http("a web application that answers every path", "wrong-path", Mcp(web=page), path="/app"),
    _http("a server without MCP", "not-found", Mcp(before=web.always(404, b"Not Found"))),
    _http("a proxy that lets only GET pass", "method-not-allowed", Mcp(before=web.always(405, b"", "text/plain"))),
    _http("a login page", "not-mcp", Mcp(before=web.always(200, b"<html>Sign in</html>", "text/html"))),
    _http("JSON under a text type", "wrong-content-type", Mcp(eras=OLD, own={"initialize": web.as_text})),
    _http("compression that nobody asked for", "odd-encoding", Mcp(before=web.as_gzip)),
    _http("a guard against foreign hosts", "host-rejected", Mcp(before=web.always(421, b"Invalid Host header"))),
    _http("a guard against missing origins", "origin-rejected", Mcp(before=web.wants_its_origin)),
    _http("a guard that says so", "origin-rejected", Mcp(before=web.always(403, b"Invalid Origin header"))),
    _http("a limit that is used up", "rate-limited", Mcp(before=web.always(429, b"slow down"))),
    _http("a server that fails", "server-error", Mcp(before=web.always(500, b"Internal Server Error"))),
    _http("a proxy without its server", "gateway-error", Mcp(before=web.always(502, b"<h1>Bad Gateway</h1>"))),
)  # fmt: skip

AUTHORIZATION = (
    _http("no credential", "auth-required", web.signs_in({})),
    _http("an old credential", "auth-rejected", web.signs_in({}), headers={"Authorization": "Bearer old"}),
    _http("a credential with too few rights", "forbidden", Mcp(before=web.always(403, b"no scope")), headers=RIGHT),
    _http("a refusal without a challenge", "challenge-missing", Mcp(before=protected("")), WANTS, "prm-missing"),
    _http("no resource metadata", "prm-missing", Mcp(before=protected()), WANTS),
    _http(
        "a challenge that leads nowhere", "prm-link-broken",
        Mcp(before=protected('Bearer resource_metadata="http://HOST/nowhere"')), WANTS,
    ),
    _http(
        "resource metadata at the root only", "prm-at-root-only",
        Mcp(before=protected(web={PRM: metadata(), AS: web.GOOD_AS | {"issuer": "http://HOST"}})), WANTS,
    ),
    _http(
        "resource metadata that is a page", "prm-unreadable",
        Mcp(before=protected(web={PRM + "/mcp": b"<html></html>"})), WANTS,
    ),
    _http(
        "resource metadata of the inner address", "prm-wrong-resource",
        Mcp(before=protected(web={
            PRM + "/mcp": metadata(resource="http://inner:8000/mcp"), AS: web.GOOD_AS | {"issuer": "http://HOST"},
        })), WANTS,
    ),
    _http(
        "an authorization server on a private address", "as-not-public",
        Mcp(before=protected(web={PRM + "/mcp": metadata("http://10.0.0.1")})), WANTS,
    ),
    _http(
        "an authorization server without metadata", "as-metadata-missing",
        Mcp(before=protected(web={PRM + "/mcp": metadata()})), WANTS,
    ),
    _http("an issuer with a slash too many", "issuer-mismatch", web.signs_in({"issuer": "http://HOST/"}), WANTS),
    _http("an issuer without its endpoints", "as-endpoints-missing", web.signs_in({"token_endpoint": None}), WANTS),
    _http("an issuer without PKCE", "pkce-missing", web.signs_in({METHODS: ["plain"]}), WANTS),
    _http("an issuer that registers nobody", "as-registration-missing", web.signs_in({REGISTERS: None}), WANTS),
)  # fmt: skip

PROTOCOL = (
    _http(
        "a revision of the future", "unknown-version",
        web.answering("initialize", {"protocolVersion": "2031-01-01", "capabilities": {}}, eras=OLD),
    ),
    _http("an old server declared modern", "era-unsupported", Mcp(eras=OLD), era="modern"),
    _http("a revision that is claimed only", "era-confusing", Mcp(own={"tools/list": web.claims}), era="modern"),
    _http(
        "a greeting in the wrong revision", "era-confusing",
        web.answering("initialize", {"protocolVersion": "2026-07-28", "capabilities": {}}, eras=OLD),
    ),
    _http(
        "a server that refuses its greeting", "initialize-refused",
        web.failing("initialize", -32603, "no database", eras=OLD),
    ),
    _http("an id that turns into text", "wrong-id", Mcp(eras=OLD, own={"initialize": web.other_id}), "nothing-offered"),
    _http("replicas that do not share sessions", "session-lost-at-once", Mcp(eras=OLD, before=web.forgets)),
    _http("a session for every refusal", "session-leak", Mcp(eras=OLD, own={"server/discover": web.leaks})),
    _http(
        "a server that refuses notifications", "notification-refused",
        Mcp(eras=OLD, own={"notifications/initialized": web.refuses}),
    ),
    _http("a clock that is a day ahead", "clock-skew", web.far_off(24)),
)  # fmt: skip

DEFINITIONS = (
    _http("a list that fails", "list-failed", web.failing("tools/list", -32603, "locked", eras=OLD), "empty-tools"),
    _http("a cursor that leads back", "pagination-loop", web.pages({None: "a", "a": "b", "b": "a"})),
    _http("a list that takes long", "slow-list", web.slowly(3.3)),
    _http("a list of two hundred tools", "huge-list", Mcp(tools=web.large(200))),
    _http("tools promised and none listed", "empty-tools", Mcp(tools=[])),
    _http("a server that offers nothing", "nothing-offered", Mcp(capabilities={})),
    _http("a schema that is none", "invalid-schema", Mcp(tools=[TOOL, BAD_SCHEMA])),
    _http("a tool without a schema", "invalid-schema", Mcp(tools=[TOOL, {"name": "bare"}])),
    _http("a schema that is elsewhere", "unchecked-arguments", Mcp(tools=[TOOL | {"inputSchema": ELSEWHERE}])),
    _http("two tools of one name", "duplicate-names", Mcp(tools=[TOOL, TOOL])),
    _http("a name that is too long", "name-budget", Mcp(tools=[TOOL | {"name": "an_action_" * 8}])),
    _http("a name that models refuse", "name-budget", Mcp(tools=[TOOL | {"name": "files:read all"}])),
    _http("a list without its hints", "invalid-result", web.answering("tools/list", {"tools": [TOOL]}, eras=NEW)),
)  # fmt: skip

STREAMS = (
    _http(
        "a proxy that holds streams back", "sse-buffered",
        Mcp(capabilities=web.LISTENS, own={"subscriptions/listen": web.held_back}),
    ),
    _http(
        "a proxy that cuts silent streams", "idle-cut",
        Mcp(capabilities=web.LISTENS, own={"subscriptions/listen": web.cut}),
    ),
)  # fmt: skip

ABROAD = "import urllib.request; urllib.request.urlopen('http://nobody.invalid')"
OPTION = "import argparse; argparse.ArgumentParser().parse_args(['--sdtio'])"
GREETS = """
import json, sys
def answer(message, result):
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "initialize":
        answer(message, {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "x"}})
    elif message.get("method") == "tools/list":
        %s
    elif "id" in message:
        error = {"code": -32601, "message": "no"}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": error}), flush=True)
"""
LISTS = 'answer(message, {"tools": [{"name": "act", "inputSchema": {"type": "object"}}]})'

PROCESSES = (
    _command("a command that is misspelt", "command-not-found", "uvxx", "mcp-server-time"),
    Seeded(
        "a script that the sandbox hides", "hidden-file",
        lambda around: only(command=[sys.executable, str(around.folder / "server.py")]),
    ),
    _command("a script that is not there", "missing-file", sys.executable, "/nowhere/server.py"),
    _child("a log file where none may be", "permission-denied", "open('/usr/server.log', 'w')"),
    _child("a key that was not given", "missing-env", "import os; os.environ['WEATHER_API_KEY']"),
    _child("a key that is asked for in words", "missing-env", "import sys; sys.exit('GITHUB_TOKEN is not set')"),
    _child("a library that is not installed", "missing-module", "import no_such_library"),
    _child("another version of the SDK", "sdk-version", "from mcp import NoSuchThing"),
    _child("another version of Python", "runtime-version", "print 'hello'"),
    _child("an option that it does not know", "wrong-arguments", OPTION),
    _child("an API that it does not reach", "network-from-process", ABROAD),
    _child("a model that does not fit", "out-of-memory", "x = b'x' * (3 * 2**30)"),
    _child("a process that kills itself", "killed", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"),
    _command("a command that is no server", "ends-at-once", "true"),
    _child("a server with a bug", "crash-at-start", "raise RuntimeError('broken')"),
    _child("a server that dies of its first list", "crash-loop", GREETS % f"{LISTS}; sys.exit(3)"),
    _child("a server that waits for something else", "mute", "import time; time.sleep(600)"),
    _child("a server that prints its log", "stdout-noise", "print('Server started!', flush=True)\n" + GREETS % LISTS),
)  # fmt: skip

DESCRIPTIONS = (
    Seeded("a page about the API", "openapi-unreadable", lambda _: web.described(Mcp(web=page)), FAILS),
    Seeded("a description that is not there", "openapi-unreadable", lambda _: web.described(Mcp()), FAILS),
    Seeded("an API at another path", "openapi-base-url", lambda _: web.described(Mcp(before=web.files(SITE)))),
)  # fmt: skip

CORPUS = (
    *DECLARATIONS,
    *CONNECTIONS,
    *ANSWERS,
    *AUTHORIZATION,
    *PROTOCOL,
    *DEFINITIONS,
    *STREAMS,
    *PROCESSES,
    *DESCRIPTIONS,
)
"""All of it. Each stands for a report of somebody who lost an afternoon."""
