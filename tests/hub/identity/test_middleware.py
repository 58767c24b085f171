"""The door: hosts, origins and credentials, as seen by whoever knocks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.audit.chain import SEGMENT_OPEN, segments
from hub.audit.recorder import Audit
from hub.audit.refusals import MOST_A_SECOND, Refusals
from hub.db.engine import Database
from hub.db.migrate import HUB, upgrade
from hub.errors import HubError, Unauthenticated
from hub.identity.api_keys import ApiKeys
from hub.identity.middleware import Authentication, LocalAdministrator
from hub.identity.principal import LOCAL_ADMINISTRATOR, OPEN_CALLER, Principal
from hub.identity.sessions import Sessions
from hub.inprocess import InProcess
from hub.settings import Settings

pytestmark = pytest.mark.anyio

OWN_HOST = {"host": "127.0.0.1:4180"}


@dataclass
class Door:
    app: ASGIApp
    keys: ApiKeys
    sessions: Sessions
    let_in: list[Principal | None]
    audit: Audit

    def recorded(self) -> list[dict[str, Any]]:
        """What the audit holds."""
        lines = [orjson.loads(line) for path in segments(self.audit.folder) for line in path.read_bytes().splitlines()]
        return [line for line in lines if line["event"] != SEGMENT_OPEN]

    async def knock(
        self,
        path: str = "/mcp",
        headers: Mapping[str, str] | list[tuple[str, str]] = OWN_HOST,
        method: str = "POST",
        peer: str = "127.0.0.1",
        extra: Mapping[str, Any] | None = None,
    ) -> tuple[int, dict[str, str], Any]:
        pairs = list(headers.items()) if isinstance(headers, Mapping) else headers
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {
            "type": "http", "method": method, "path": path, "query_string": b"",
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs],
            "client": (peer, 1), "server": ("127.0.0.1", 4180),
        } | dict(extra or {})  # fmt: skip
        await self.app(scope, receive, send)
        body = b"".join(one.get("body", b"") for one in sent[1:])
        answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], answered, orjson.loads(body) if body else None


@asynccontextmanager
async def door(tmp_path: Path, **changes: Any) -> AsyncGenerator[Door]:
    settings = Settings(home=tmp_path, **changes)
    database = Database(settings.database)
    upgrade(database, HUB)
    let_in: list[Principal | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        let_in.append(scope.get("principal"))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    keys, sessions = ApiKeys(database), Sessions(database, settings.url)
    audit = Audit(settings.audit_dir, "hub-0")
    yield Door(Authentication(app, keys, sessions, settings, audit=audit), keys, sessions, let_in, audit)
    audit.close()
    database.close()


def bearer(token: str, **more: str) -> dict[str, str]:
    return OWN_HOST | {"authorization": f"Bearer {token}"} | more


async def test_without_a_credential_a_call_is_told_where_to_get_one(tmp_path: Path) -> None:
    async with door(tmp_path) as hub:
        status, headers, body = await hub.knock()
        assert status == 401 and hub.let_in == []
        assert headers["www-authenticate"] == (
            'Bearer resource_metadata="http://127.0.0.1:4180/.well-known/oauth-protected-resource/mcp"'
        )
        assert body["code"] == "unauthenticated" and body["owner"] == "client" and body["hint"]


async def test_a_key_lets_its_holder_in_on_every_face(tmp_path: Path) -> None:
    async with door(tmp_path) as hub:
        row, token = await hub.keys.create("laptop")
        for path in ("/mcp", "/mcp/s/rag", "/v1/models", "/api/v1/servers", "/"):
            assert (await hub.knock(path, bearer(token)))[0] == 200
        assert {one.name for one in hub.let_in if one} == {row.name}


async def test_a_bad_key_falls_back_to_nothing(tmp_path: Path) -> None:
    """CVE-2026-59822, -34953, -46701: neither to a cookie, nor to --open, nor to a public path's nobody."""
    async with door(tmp_path, open=True) as hub:
        cookie = await hub.sessions.redeem(await hub.sessions.create_link())
        signed_in = {"cookie": f"{hub.sessions.cookie.name}={cookie}"}
        for path in ("/mcp", "/", "/livez"):
            for value in ("Bearer wrong", "Bearer", "Bearer ", "", "Basic YTpi", "bearer\tx"):
                status, headers, _ = await hub.knock(path, OWN_HOST | signed_in | {"authorization": value})
                assert status == 401, (path, value)
                assert 'error="invalid_token"' in headers["www-authenticate"]
        assert hub.let_in == []


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:4180", "127.0.0.1:4181", "localhost.evil.example:4180", "127.0.0.1", "",
     "127.0.0.1:4180.", "127.0.0.1:4180@evil", "admin/livez?x=127.0.0.1:4180"],
)  # fmt: skip
async def test_a_foreign_host_is_not_answered_even_with_a_key_or_on_public_paths(tmp_path: Path, host: str) -> None:
    """DNS rebinding (CVE-2025-66414 and its kin), and CVE-2026-49468: the host never decides the route."""
    async with door(tmp_path, open=True) as hub:
        _, token = await hub.keys.create("laptop")
        for path in ("/mcp", "/livez"):
            status, _, body = await hub.knock(path, bearer(token) | {"host": host})
            assert (status, body["code"]) == (421, "misdirected")
        assert hub.let_in == []


async def test_own_configured_and_public_hosts_are_answered(tmp_path: Path) -> None:
    async with door(tmp_path, allowed_hosts=["hub.lan"], public_url="https://Hub.Example/", host="0.0.0.0") as hub:
        for host in ("LOCALHOST:4180", "[::1]:4180", "hub.lan", "hub.lan:4180", "hub.example", "hub.example:443"):
            assert (await hub.knock("/livez", {"host": host}))[0] == 200, host
        came_to = {"server": ("192.0.2.7", 4180)}
        assert (await hub.knock("/livez", {"host": "192.0.2.7:4180"}, extra=came_to))[0] == 200
        assert (await hub.knock("/livez", {"host": "192.0.2.8:4180"}, extra=came_to))[0] == 421


async def test_doubled_headers_are_refused(tmp_path: Path) -> None:
    async with door(tmp_path) as hub:
        for name, value in (("host", "127.0.0.1:4180"), ("authorization", "Bearer x"), ("origin", "http://a")):
            pairs = [*OWN_HOST.items(), (name, value), (name, value)]
            assert (await hub.knock("/mcp", pairs))[0] == 400


async def test_pages_of_other_origins_are_refused_and_our_own_are_not(tmp_path: Path) -> None:
    async with door(tmp_path, open=True, allowed_origins=["https://Inspector.example"]) as hub:
        for origin in ("https://evil.example", "null", "http://127.0.0.1:9999", "http://localhost"):
            assert (await hub.knock("/mcp", OWN_HOST | {"origin": origin}))[0] == 403, origin
        assert hub.let_in == []
        for origin in ("http://127.0.0.1:4180", "http://localhost:4180", "https://inspector.example"):
            assert (await hub.knock("/mcp", OWN_HOST | {"origin": origin}))[0] == 200, origin


async def test_open_lets_in_this_machine_only(tmp_path: Path) -> None:
    async with door(tmp_path, open=True) as hub:
        assert (await hub.knock())[0] == 200 and hub.let_in == [OPEN_CALLER]
        assert (await hub.knock(peer="::1"))[0] == 200
        assert (await hub.knock(peer="192.0.2.1"))[0] == 401
        assert (await hub.knock(headers=OWN_HOST | {"x-forwarded-for": "127.0.0.1"}))[0] == 401
        assert (await hub.knock(headers=OWN_HOST | {"sec-fetch-site": "cross-site"}))[0] == 401


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "hub.example"])
def test_open_is_refused_where_others_can_reach_it(tmp_path: Path, host: str) -> None:
    """CVE-2026-49257: everything open on every interface."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None: ...

    settings = Settings.model_validate({"home": tmp_path, "host": host, "open": True})
    database = Database("sqlite://")
    with pytest.raises(HubError, match="--open"):
        Authentication(app, ApiKeys(database), Sessions(database, settings.url), settings)
    database.close()


async def test_a_cookie_counts_for_pages_and_the_api_but_never_for_the_token_faces(tmp_path: Path) -> None:
    async with door(tmp_path) as hub:
        cookie = await hub.sessions.redeem(await hub.sessions.create_link())
        signed_in = OWN_HOST | {"cookie": f"bad cookie;=; x={{}}; {hub.sessions.cookie.name}={cookie}"}
        assert (await hub.knock("/servers", signed_in, "GET"))[0] == 200
        assert (await hub.knock("/api/v1/servers", signed_in, "GET"))[0] == 200
        assert (await hub.knock("/api/v1/servers", signed_in, "POST"))[0] == 403
        with_token = signed_in | {"x-csrf-token": hub.sessions.csrf(cookie)}
        assert (await hub.knock("/api/v1/servers", with_token, "POST"))[0] == 200
        for path in ("/mcp", "/mcp/s/rag", "/v1/models"):
            assert (await hub.knock(path, with_token, "POST"))[0] == 401
        assert {one.subject for one in hub.let_in if one} == {"person:admin"}


async def test_a_browser_without_a_session_is_shown_the_way_to_sign_in(tmp_path: Path) -> None:
    async with door(tmp_path) as hub:
        status, headers, _ = await hub.knock("/servers", OWN_HOST | {"accept": "text/html"}, "GET")
        assert (status, headers["location"]) == (303, "/sign-in?next=/servers")
        for path, way in (("/", "/sign-in"), ("//evil.example/x", "/sign-in"), ("/a\r\nb", "/sign-in?next=/a%0D%0Ab")):
            _, headers, _ = await hub.knock(path, OWN_HOST | {"accept": "text/html"}, "GET")
            assert headers["location"] == way
        assert (await hub.knock("/api/v1/servers", OWN_HOST | {"accept": "text/html"}, "GET"))[0] == 401


async def test_public_paths_need_nobody_and_neighbours_of_them_do(tmp_path: Path) -> None:
    async with door(tmp_path) as hub:
        for path in ("/livez", "/readyz", "/sign-in", "/static/app.css", "/.well-known/oauth-protected-resource"):
            assert (await hub.knock(path))[0] == 200
        assert hub.let_in == [None] * 5
        for path in ("/livezz", "/LIVEZ", "//livez", "/static-evil", "/mcp/livez", "/api/v1/../../livez"):
            assert (await hub.knock(path))[0] == 401, path


async def test_no_header_can_say_who_calls(tmp_path: Path) -> None:
    """GHSA-g53w-w6mj-hrpp: an internal header that skipped authentication."""
    async with door(tmp_path) as hub:
        claims = {"principal": "local:admin", "x-principal": "local:admin", "x-forwarded-user": "admin"}
        assert (await hub.knock("/mcp", OWN_HOST | claims))[0] == 401
        assert (await hub.knock("/mcp", OWN_HOST, extra={"principal": "local:admin"}))[0] == 401


async def test_callers_in_process_and_on_the_admin_socket_are_who_they_are(tmp_path: Path) -> None:
    async with door(tmp_path) as hub:
        me = Principal("person:x", "x", "person")
        assert (await InProcess(hub.app).request(me, "GET", "/api/v1/servers")).status == 200
        hub.app = LocalAdministrator(hub.app)
        assert (await hub.knock("/api/v1/servers", {"host": "localhost"}))[0] == 200
        assert hub.let_in == [me, LOCAL_ADMINISTRATOR]


async def test_refused_credentials_are_recorded_without_the_credential(tmp_path: Path) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    async with door(tmp_path) as hub:
        _, token = await hub.keys.create("laptop")
        await hub.knock(f"/mcp/s/{token}", bearer(f"{token}x", traceparent=f"00-{trace}-b7ad6b7169203331-01"))
        await hub.knock("/api/v1/servers", peer="10.0.0.7")
        await hub.knock("/mcp", {"host": "evil.example"})
        await hub.knock("/mcp", OWN_HOST | {"origin": "https://evil.example"})
        await hub.knock("/mcp", bearer(token))
        records = hub.recorded()
    assert [(one["event"], one["subject"], one["target"], one["outcome"]) for one in records] == [
        ("access:refused", "", "/mcp/s/[hidden]", "denied"),
        ("access:refused", "", "/api/v1/servers", "denied"),
        ("access:refused", "", "/mcp", "misdirected"),
        ("access:refused", "", "/mcp", "denied"),
    ]
    assert records[0]["trace"] == trace
    assert records[1]["detail"] == "unauthenticated; from 10.0.0.7"
    assert token.split("_")[2] not in orjson.dumps(records).decode()


async def test_a_person_who_is_shown_the_way_in_is_no_refusal(tmp_path: Path) -> None:
    async with door(tmp_path) as hub:
        status, _, _ = await hub.knock("/servers", OWN_HOST | {"accept": "text/html"}, "GET")
        assert (status, hub.recorded()) == (303, [])


async def test_a_flood_of_bad_keys_fills_no_disk_and_is_counted(tmp_path: Path) -> None:
    moment = 100.0
    audit = Audit(tmp_path / "audit", "hub-0")
    refusals = Refusals(audit, "access:refused", lambda: moment)
    for _ in range(500):
        refusals.record(Unauthenticated("no"))
    moment = 101.0
    refusals.record(Unauthenticated("no"))
    refusals.record(Unauthenticated("no"))
    audit.close()
    details = [orjson.loads(line).get("detail") for line in segments(audit.folder)[0].read_bytes().splitlines()[1:]]
    assert len(details) == MOST_A_SECOND + 2
    assert details[-2:] == ["unauthenticated; 490 more before this", "unauthenticated"]


async def test_a_refusal_that_cannot_be_recorded_is_still_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("in the way of the folder")
    async with door(tmp_path) as hub:
        status, _, _ = await hub.knock(headers=bearer("ek_bad"))
        assert status == 401
