"""Lines without secrets, figures, health for supervisors, and trace ids."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from hub.identity.principal import LOCAL_ADMINISTRATOR, OPEN_CALLER, Principal
from hub.settings import Settings
from hub.telemetry import tracing
from hub.telemetry.health import Health
from hub.telemetry.logging import JsonLines, TextLines, configure
from hub.telemetry.metrics import Metrics
from hub.telemetry.redaction import redact

TOKEN = "ek_abcdefgh_" + "0123456789abcdefghjkmnpqrstvwxyz0123456789abcdefghjk_0a1b2c3"
SECRETS = (
    TOKEN,
    "sk-proj-abcdefghijklmnop1234",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "AKIAIOSFODNN7EXAMPLE",
)


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("frame", ["{}", "it was {}.", "GET /x?y={}&z=1", '{{"a": "{}"}}', "Bearer {}", "\n{}\n"])
def test_tokens_are_hidden_wherever_they_stand(secret: str, frame: str) -> None:
    shown = redact(frame.format(secret))
    assert secret not in shown and secret[-12:] not in shown


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer hunter2hunter2", "authorization=Basic aHVudGVyMg==", '{"api_key": "hunter2 x"}',
        "OPENAI_API_KEY=hunter2", "password: hunter2", "https://me:hunter2@db.example/x", "X-Api-Key: 'hunter2'",
        'client_secret="hunter2"', "?access_token=hunter2&a=b", "Cookie: session=hunter2", "{'db_password': 'hunter2'}",
    ],
)  # fmt: skip
def test_named_secrets_are_hidden(text: str) -> None:
    """CVE-2024-9606: a key that was only partly masked."""
    shown = redact(text)
    assert "hunter2" not in shown and "aHVudGVyMg" not in shown and "[hidden]" in shown


@pytest.mark.parametrize("text", ["12 tokens used", "call rag/search took 3 ms", "https://a.example/token/list", ""])
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


def test_hostile_text_costs_little_time() -> None:
    for text in ("password" * 100_000, "eyJ" * 100_000, "-----BEGIN " * 50_000, "://" * 100_000, '"\\' * 100_000):
        redact(text)


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger, given back as pytest had it."""
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    root.handlers[:] = []
    yield root
    for handler in root.handlers:
        handler.close()
    root.handlers[:], logging.raiseExceptions = handlers, raising
    root.setLevel(level)


def settings(tmp_path: Path, **changes: Any) -> Settings:
    return Settings.model_validate({"home": tmp_path} | changes)


def test_lines_go_to_a_private_file_as_json_without_secrets(
    tmp_path: Path, root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(settings(tmp_path, log_format="text"), "hub-0")
    logging.getLogger("hub.x").info("key %s", TOKEN, extra={"trace": "t1", "header": f"Bearer {TOKEN}"})
    logging.getLogger("uvicorn.error").warning("from uvicorn")
    logging.getLogger("httpx").info("chatter")
    try:
        raise ValueError(TOKEN)
    except ValueError:
        logging.getLogger("hub.x").exception("it broke")
    path = tmp_path / "logs" / "hub-0.log"
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    assert [line["message"] for line in lines] == ["key [hidden]", "from uvicorn", "it broke"]
    assert (lines[0]["source"], lines[0]["level"], lines[0]["trace"]) == ("hub-0", "info", "t1")
    assert "ValueError" in lines[2]["exception"]
    shown = capsys.readouterr().err
    assert "from uvicorn" in shown and TOKEN not in shown and TOKEN not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0


def test_a_caller_cannot_forge_lines() -> None:
    record = logging.makeLogRecord({"msg": "a\nb", "levelname": "INFO", "name": "x", "field": object()})
    assert "\n" not in TextLines().format(record)
    assert orjson.loads(JsonLines("s").format(record))["message"] == "a\nb"


def app(metrics: Metrics, missing: dict[str, str], principal: Principal | None = None) -> ASGIApp:
    checks = {name: lambda name=name: missing[name] for name in missing}
    inner = Starlette(routes=Health(checks, metrics).routes())

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        if principal is not None:
            scope["principal"] = principal
        await inner(scope, receive, send)

    return outer


async def get(app: ASGIApp, path: str, peer: str = "127.0.0.1", **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(app, client=(peer, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as client:
        return await client.get(path, headers=headers)


@pytest.mark.anyio
async def test_ready_names_what_is_missing_while_alive_stays_alive() -> None:
    metrics, missing = Metrics(CollectorRegistry()), {"catalog": "not loaded", "audit": ""}
    hub = app(metrics, missing)
    answer = await get(hub, "/readyz")
    assert (answer.status_code, answer.json()) == (503, {"ready": False, "missing": {"catalog": "not loaded"}})
    assert (await get(hub, "/livez")).status_code == 200
    missing["catalog"] = ""
    assert (await get(hub, "/readyz")).status_code == 200


@pytest.mark.anyio
async def test_figures_are_for_this_machine_and_for_administrators() -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.called("rag", "ok", 0.02)
    assert (
        'entrepot_calls_total{outcome="ok",server="rag",version=""} 1.0'
        in (await get(app(metrics, {}), "/metrics")).text
    )
    assert (await get(app(metrics, {}), "/metrics", "192.0.2.1")).status_code == 403
    assert (await get(app(metrics, {}), "/metrics", **{"X-Forwarded-For": "127.0.0.1"})).status_code == 403
    assert (await get(app(metrics, {}, OPEN_CALLER), "/metrics")).status_code == 403
    assert (await get(app(metrics, {}, LOCAL_ADMINISTRATOR), "/metrics", "192.0.2.1")).status_code == 200


def test_a_removed_server_leaves_no_series() -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.called("rag", "ok", 0.1)
    metrics.called("rag", "server-down", 0.1)
    metrics.state("rag", "down")
    assert b'entrepot_server_state{server="rag",state="down"} 1.0' in generate_latest(metrics.registry)
    metrics.forget("rag")
    metrics.forget("never-there")
    assert b"rag" not in generate_latest(metrics.registry)
    metrics.called("rag", "ok", 0.1)
    assert b'server="rag",version=""} 1.0' in generate_latest(metrics.registry)


def test_a_caller_s_trace_is_followed_and_a_malformed_one_replaced() -> None:
    header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    ours = tracing.follow(header)
    assert ours.id == "0af7651916cd43dd8448eb211c80319c" and ours.span != "b7ad6b7169203331" and ours.sampled
    assert tracing.parse(ours.header) == ours
    zeroed = header.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32)
    for bad in (None, "", "x", header.upper(), f"{header}-more", f"ff{header[2:]}", zeroed, header + "\n0"):
        assert tracing.parse(bad) is None
        assert len(tracing.follow(bad).id) == 32
    assert tracing.parse(f"01{header[2:]}-more") is not None
