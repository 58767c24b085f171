"""The admin API over ASGI, on a real database, with scripted servers and a scripted runner."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import httpx
import orjson
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from hub.admin_api import checks
from hub.admin_api.endpoint import PREFIX
from hub.admin_api.router import ENDPOINTS, build, fallback
from hub.admin_api.services import Services
from hub.audit.indexer import Indexer
from hub.catalog.rollouts import Rollouts
from hub.identity.api_keys import ApiKeys
from hub.identity.principal import LOCAL_ADMINISTRATOR, Principal
from hub.identity.sessions import Sessions
from hub.ids import system_clock
from hub.inference.registry import Models
from hub.inference.relay import Relay
from hub.limits.leases import Leases
from hub.limits.limits import Limits
from hub.limits.link import Here
from hub.policy.admission import Admission
from hub.settings import Settings
from hub.telemetry.figures import Figures
from tests.hub.catalog.scripted import Stage, offering, stage, tool
from tests.support.upstreams import serving

pytestmark = pytest.mark.anyio

READER = Principal("key:reader", "reader", "service", frozenset({"admin:read"}))
ADMIN_ONLY = Principal("key:admin", "admin", "service", frozenset({"admin"}))
CALLER = Principal("key:caller", "caller", "service", frozenset({"call", "models"}))


@dataclass
class Api:
    """The API as one principal at a time."""

    app: ASGIApp
    stage: Stage
    keys: ApiKeys
    settings: Settings

    async def ask(
        self, method: str, path: str, json: Any = None, *, by: Principal | None = LOCAL_ADMINISTRATOR, **more: Any
    ) -> httpx.Response:
        async def as_principal(scope: Scope, receive: Receive, send: Send) -> None:
            await self.app({**scope, "principal": by}, receive, send)

        transport = httpx.ASGITransport(as_principal)
        async with httpx.AsyncClient(transport=transport, base_url="http://hub") as client:
            return await client.request(method, PREFIX + path, json=json, **more)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncGenerator[Api]:
    async with stage(tmp_path) as on:
        settings = Settings.model_validate({"home": tmp_path, "bare": True})
        keys = ApiKeys(on.database)
        services = Services(
            settings,
            on.database,
            Admission(),
            on.audit,
            on.catalog,
            on.runner,
            keys,
            Sessions(on.database, settings.url),
            Models(on.database, on.keyring, Relay()),
            Limits(Leases(Here(tmp_path / "quotas.jsonl", system_clock), system_clock, time.monotonic)),
            Rollouts(on.catalog, Figures(time.time), on.keyring, on.audit),
            announce=on.world.announce,
        )
        yield Api(Starlette(routes=[*build(services), fallback()]), on, keys, settings)


async def test_a_server_lives_its_life_through_the_api(api: Api) -> None:
    api.stage.world.servers["http://time.test/mcp"] = offering(tool("now"))
    body = {"name": "time", "url": "http://time.test/mcp", "headers": {"Authorization": "Bearer s3cret-value"}}
    dry = await api.ask("POST", "/servers?dry_run=true", body)
    assert (dry.status_code, (await api.ask("GET", "/servers")).json()) == (200, {"servers": []})
    added = await api.ask("POST", "/servers", body)
    assert added.status_code == 201
    assert added.json()["exposed"] == dry.json()["exposed"] == [{"kind": "tool", "name": "now", "exposed": "now"}]
    assert "s3cret" not in added.text
    assert added.json()["secrets"] == ["Authorization"]
    definitions = (await api.ask("GET", "/servers/time/definitions")).json()["definitions"]
    assert definitions[0]["definition"] == orjson.loads(tool("now"))
    del api.stage.world.servers["http://time.test/mcp"]
    assert (await api.ask("POST", "/servers/time/refresh")).json()["state"] == "down"
    assert (await api.ask("DELETE", "/servers/time")).status_code == 204
    gone = await api.ask("GET", "/servers/time")
    assert (gone.status_code, gone.headers["content-type"]) == (404, "application/problem+json")


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
async def test_every_row_is_refused_without_its_scope(api: Api, endpoint: Any) -> None:
    path = endpoint.path.replace("{name}", "x").replace("{id}", "x").replace("{child}", "x")
    assert (await api.ask(endpoint.method, path, {}, by=None)).status_code == 401
    refused = await api.ask(endpoint.method, path, {}, by=CALLER)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    if endpoint.action == "admin:write":
        assert (await api.ask(endpoint.method, path, {}, by=READER)).status_code == 403
    assert api.stage.world.looks == [] and api.stage.world.children == {}


async def test_what_was_denied_is_in_the_audit_with_who_asked(api: Api) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    told = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    assert (await api.ask("POST", "/tokens", {"name": "mine"}, by=CALLER, headers=told)).status_code == 403
    assert (await api.ask("DELETE", "/servers/x", by=READER)).status_code == 403
    assert (await api.ask("GET", "/servers", by=READER)).status_code == 200
    await Indexer(api.stage.audit.folder, api.stage.database).catch_up()
    records = (await api.ask("GET", "/audit?event=admin:denied")).json()["records"]
    assert [(one["subject"], one["target"], one["outcome"]) for one in records] == [
        ("key:reader", "remove_server", "denied"),
        ("key:caller", "create_token", "denied"),
    ]
    assert records[1]["trace"] == trace


async def test_problems_name_who_must_act_and_carry_the_callers_trace(api: Api) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    answer = await api.ask(
        "POST",
        "/servers",
        {"name": "gone", "url": "http://gone.test/"},
        headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"},
    )
    told = answer.json()
    assert answer.status_code == told["status"] == 503
    assert (told["code"], told["owner"], told["trace"], told["type"]) == ("server-down", "server", trace, "about:blank")


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 400),
        (b'{"name": "x"}', 400),
        (b'{"name": "X!", "url": "http://x.test"}', 400),
        (b'{"name": "x", "url": "http://x.test", "command": ["y"]}', 400),
        (b'{"name": "x", "url": "http://user:pass@x.test"}', 400),
        (b'{"name": "x", "url": "file:///etc/passwd"}', 400),
        (b'{"name": "x", "package": "npm:thing@latest"}', 400),
        (b"[" * 1000 + b"]" * 1000, 413),
        (b'"' + b"x" * 2**20 + b'"', 413),
    ],
)
async def test_bad_bodies_are_refused_in_words(api: Api, content: bytes, status: int) -> None:
    answer = await api.ask("POST", "/servers", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert answer.json()["owner"] == "client"


async def test_a_form_of_another_site_is_not_a_body(api: Api) -> None:
    answer = await api.ask("POST", "/tokens", content=b'{"name":"x"}', headers={"content-type": "text/plain"})
    assert answer.status_code == 400


async def test_errors_never_repeat_secrets(api: Api) -> None:
    body = {"name": "x", "url": "http://x.test", "headers": {"Host": "hunter2hunter2"}, "env": {"A": "hunter2hunter2"}}
    answer = await api.ask("POST", "/servers", body)
    assert answer.status_code == 400 and "hunter2" not in answer.text


async def test_tokens_are_shown_once_listed_without_secret_and_revoked_everywhere(api: Api) -> None:
    made = (await api.ask("POST", "/tokens", {"name": "ci", "scopes": ["call:time"], "expires_seconds": 60})).json()
    principal = api.keys.authenticate(made["token"])
    assert principal is not None and principal.scopes == {"call:time"}
    listed = (await api.ask("GET", "/tokens")).json()["tokens"]
    assert [key["id"] for key in listed] == [made["id"]]
    assert not {"token", "digest"} & listed[0].keys()
    told = api.stage.world.told
    assert (await api.ask("DELETE", f"/tokens/{made['id']}")).status_code == 204
    assert api.keys.authenticate(made["token"]) is None
    assert api.stage.world.told == told + 1
    assert (await api.ask("DELETE", "/tokens/key_unknown")).status_code == 404


async def test_nobody_gives_what_they_do_not_hold(api: Api) -> None:
    for scopes in (["call"], ["call:time"], ["models"], None):
        answer = await api.ask(
            "POST", "/tokens", {"name": "more"} | ({"scopes": scopes} if scopes else {}), by=ADMIN_ONLY
        )
        assert answer.status_code == 403, scopes
    assert (await api.ask("POST", "/tokens", {"name": "x", "scopes": ["admin:read"]}, by=ADMIN_ONLY)).status_code == 201
    assert (await api.ask("POST", "/sign-in-links", {}, by=ADMIN_ONLY)).status_code == 403


async def test_a_sign_in_link_works_once(api: Api) -> None:
    made = (await api.ask("POST", "/sign-in-links", {})).json()
    assert made["url"].startswith(f"{api.settings.url}/sign-in?token=")
    sessions = Sessions(api.stage.database, api.settings.url)
    cookie = await sessions.redeem(made["url"].partition("=")[2])
    principal = await sessions.principal(cookie)
    assert principal is not None and principal.subject == "person:admin"


async def test_apply_takes_yaml_and_says_what_it_did(api: Api) -> None:
    api.stage.world.servers["http://time.test/mcp"] = offering(tool("now"))
    text = """
servers:
  - name: time
    url: http://time.test/mcp
collections:
  - name: daily
    members: [time/now]
models:
  - name: tiny
    url: http://127.0.0.1:9/v1
"""
    headers = {"content-type": "application/yaml"}
    dry = (await api.ask("POST", "/apply?dry_run=true", content=text, headers=headers)).json()
    assert not dry["applied"] and (await api.ask("GET", "/models")).json() == {"models": []}
    done = (await api.ask("POST", "/apply", content=text, headers=headers)).json()
    kinds = [("create", "server"), ("create", "collection"), ("create", "model")]
    assert [(change["action"], change["kind"]) for change in done["changes"]] == kinds
    again = (await api.ask("POST", "/apply", content=text, headers=headers)).json()
    assert {change["action"] for change in again["changes"]} == {"none"}
    assert (await api.ask("GET", "/collections")).json()["collections"][0]["members"] == ["time/now"]


async def test_a_bad_model_keeps_the_whole_file_out(api: Api) -> None:
    api.stage.world.servers["http://time.test/mcp"] = offering(tool("now"))
    body = {"servers": [{"name": "time", "url": "http://time.test/mcp"}], "models": [{"name": "m", "url": "nonsense"}]}
    assert (await api.ask("POST", "/apply", body)).status_code == 400
    assert (await api.ask("GET", "/servers")).json() == {"servers": []}


async def test_a_yaml_alias_is_refused(api: Api) -> None:
    bomb = b"a: &a [x, x]\nb: &b [*a, *a]\nservers: [*b, *b]\n"
    answer = await api.ask("POST", "/apply", content=bomb, headers={"content-type": "application/yaml"})
    assert answer.status_code == 400 and "alias" in answer.json()["detail"]


async def test_a_clients_configuration_is_taken_over(api: Api) -> None:
    config = {"mcpServers": {"My Files": {"command": "npx", "args": ["-y", "server-files@1.0.0"], "env": {"N": 1}}}}
    done = (await api.ask("POST", "/import", config)).json()
    assert done["applied"] and done["changes"][0]["name"] == "my-files"
    assert api.stage.world.children["my-files"]["env"]["N"] == "1"
    refused = await api.ask("POST", "/import", {"servers": {"x": {"command": "y", "env": {"KEY": "${input:key}"}}}})
    assert refused.status_code == 400 and "${input:key}" in refused.json()["detail"]


async def test_models_are_put_shown_and_forgotten(api: Api) -> None:
    put = await api.ask("PUT", "/models/tiny", {"url": "http://127.0.0.1:9/v1", "api_key": "sk-hidden-hidden"})
    assert put.status_code == 200 and "sk-hidden" not in put.text
    assert (await api.ask("POST", "/models/tiny/probe")).json()["state"] == "down"
    assert (await api.ask("DELETE", "/models/tiny")).status_code == 204
    assert (await api.ask("DELETE", "/models/tiny")).status_code == 404


async def test_the_runner_is_reached_through_replicas_and_its_absence_is_explained(api: Api) -> None:
    await api.ask("POST", "/servers", {"name": "local", "command": ["hello"]})
    assert [child["name"] for child in (await api.ask("GET", "/replicas")).json()["replicas"]] == ["local"]
    assert (await api.ask("PUT", "/replicas/local", {"replicas": 2})).status_code == 200
    assert api.stage.world.children["local"]["replicas"] == 2
    assert (await api.ask("PUT", "/replicas/nobody", {"replicas": 1})).status_code == 404
    assert (await api.ask("PUT", "/replicas/local", {"replicas": -1})).status_code == 400


async def test_logs_are_bounded_filtered_and_without_secrets(api: Api) -> None:
    api.settings.logs_dir.mkdir()
    lines = [{"at": f"2026-01-01T00:00:{i:02}Z", "level": "info", "message": f"line {i}"} for i in range(30)]
    lines[29]["message"] = "authorization: Bearer abcdefghijklmnop"
    (api.settings.logs_dir / "hub.log").write_bytes(b"\n".join(map(orjson.dumps, lines)) + b"\nplain text\n")
    (api.settings.logs_dir / "child-a.log").write_text('{"at": "2026-01-02", "level": "info", "message": "other"}\n')
    got = (await api.ask("GET", "/logs?source=hub&limit=5")).json()["lines"]
    assert len(got) == 5 and "abcdefghijklmnop" not in orjson.dumps(got).decode()
    found = (await api.ask("GET", "/logs?query=LINE 7")).json()["lines"]
    assert [line["message"] for line in found] == ["line 7"]
    assert (await api.ask("GET", "/logs?source=../../etc/passwd")).json() == {"lines": []}


async def test_the_audit_knows_who_did_what_and_pages(api: Api) -> None:
    await api.ask("POST", "/servers", {"name": "gone", "url": "http://gone.test/"})
    for name in ("a", "b", "c"):
        await api.ask("PUT", f"/collections/{name}", {"members": ["x"]})
    indexer = Indexer(api.settings.audit_dir, api.stage.database)
    with anyio.fail_after(10):
        await indexer.catch_up()
    page = (await api.ask("GET", "/audit?event=collection:change&limit=2")).json()
    assert [record["target"] for record in page["records"]] == ["c", "b"]
    rest = (await api.ask("GET", "/audit", params={"event": "collection:change", "cursor": page["next"]})).json()
    assert ([record["target"] for record in rest["records"]], rest["next"]) == (["a"], None)
    failed = (await api.ask("GET", "/audit?server=gone")).json()["records"][0]
    assert (failed["subject"], failed["event"]) == ("local:admin", "server:add") and failed["outcome"] != "ok"
    assert (await api.ask("GET", "/audit/verify")).json()["ok"]


async def test_status_and_doctor_say_what_is_missing(api: Api) -> None:
    status = (await api.ask("GET", "/status", by=READER)).json()
    assert (status["runner"], status["agents"]) == ("down", "off")
    assert status["servers"] == {"ready": 0, "degraded": 0, "down": 0, "new": 0}
    checks = {check["name"]: check for check in (await api.ask("GET", "/doctor", by=READER)).json()["checks"]}
    assert checks["database"]["ok"] and checks["audit"]["ok"] and checks["runner"]["ok"]
    api.stage.world.children["time"] = {}
    checks = {check["name"]: check for check in (await api.ask("GET", "/doctor", by=READER)).json()["checks"]}
    assert checks["runner"]["detail"] == "1 child."


@pytest.mark.parametrize(("body", "well"), [(b"ok\n", True), (b"Welcome", False)])
async def test_the_doctor_follows_the_url_that_clients_are_told(api: Api, body: bytes, well: bool) -> None:
    async def site(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(body)(scope, receive, send)

    async with serving(site, lifespan=False) as url:
        settings = api.settings.model_copy(update={"public_url": url})
        services = SimpleNamespace(settings=settings)
        ok, detail, hint = await checks.CHECK_BY_NAME["public-url"](services)  # pyright: ignore[reportArgumentType]
    assert ok is well and url in detail and "ENTREPOT_PUBLIC_URL" in hint
    services.settings = settings.model_copy(update={"public_url": "http://127.0.0.1:9"})
    ok, detail, _ = await checks.CHECK_BY_NAME["public-url"](services)  # pyright: ignore[reportArgumentType]
    assert not ok and "cannot be reached" in detail


async def test_unknown_paths_are_problems_too(api: Api) -> None:
    answer = await api.ask("GET", "/nothing")
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


async def test_the_description_is_valid_and_says_all_that_is_served_and_nothing_else(api: Api) -> None:
    described = (await api.ask("GET", "/openapi.json", by=READER)).json()
    OpenAPIV31SpecValidator(described).validate()
    said = {(method.upper(), path) for path, methods in described["paths"].items() for method in methods}
    assert said == {(endpoint.method, PREFIX + endpoint.path) for endpoint in ENDPOINTS}
    assert len({endpoint.name for endpoint in ENDPOINTS}) == len(ENDPOINTS)


async def test_answers_are_what_the_description_promises(api: Api) -> None:
    api.stage.world.servers["http://time.test/mcp"] = offering(tool("now"), eras=("legacy",))
    added = await api.ask("POST", "/servers", {"name": "time", "url": "http://time.test/mcp"})
    await api.ask("PUT", "/models/tiny", {"url": "http://127.0.0.1:9/v1"})
    await api.ask("POST", "/tokens", {"name": "x"})
    assert added.status_code == 201
    for endpoint in ENDPOINTS:
        if endpoint.method == "GET":
            answer = await api.ask("GET", endpoint.path.replace("{name}", "time"))
            assert answer.status_code == 200, endpoint.path
            endpoint.answer.model_validate(answer.json())
