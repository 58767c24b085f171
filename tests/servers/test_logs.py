"""The logs server over real files: what is found, what is blanked out, and what is bounded."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

from servers.kit import Environment
from servers.logs.redact import redact
from servers.logs.server import application

pytestmark = pytest.mark.anyio
MODES = ["legacy", "2026-07-28"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = [
        '{"at": "2026-11-20T10:00:00Z", "level": "info", "message": "hub started", "worker": 0}',
        '{"at": "2026-11-20T10:05:00Z", "level": "error", "message": "upstream weather failed after 31 ms"}',
        '{"at": "2026-11-20T10:06:00Z", "level": "error", "message": "upstream weather failed after 47 ms"}',
        '{"at": "2026-11-20T10:07:00Z", "level": "info", "message": "数据库 连接成功",'
        ' "authorization": "Bearer abcdefghijkl"}',
    ]
    (tmp_path / "hub-0.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
    plain = "2026-11-20 10:01:00,123 WARNING disk is nearly full\nTraceback (most recent call last):\n  ValueError: x\n"
    (tmp_path / "child-weather.log").write_text(plain + "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!\n")
    with gzip.open(tmp_path / "hub-0.log.1.gz", "wt") as old:
        old.write('{"at": "2026-11-19T10:00:00Z", "level": "info", "message": "hub of yesterday"}\n')
    (tmp_path / "passwd.log").symlink_to("/etc/passwd")
    return tmp_path


async def call(folder: Path | None, tool: str, arguments: dict[str, Any], mode: str = "2026-07-28") -> Any:
    env = {} if folder is None else {"ENTREPOT_LOGS_DIR": str(folder)}
    with anyio.fail_after(20):
        async with Client(application(Environment(env)).server, mode=mode) as client:
            return await client.call_tool(tool, arguments)


def messages(result: Any) -> list[str]:
    assert not result.is_error, result.content
    return [line["message"] for line in result.structured_content["lines"]]


@pytest.mark.parametrize("mode", MODES)
async def test_words_levels_and_times_narrow_a_search(folder: Path, mode: str) -> None:
    failed = await call(folder, "search_logs", {"query": "WEATHER failed"}, mode)
    assert messages(failed) == ["upstream weather failed after 47 ms", "upstream weather failed after 31 ms"]
    assert messages(await call(folder, "search_logs", {"query": "weather -47"}, mode)) == [
        "upstream weather failed after 31 ms"
    ]
    warned = await call(folder, "search_logs", {"level": "warning", "before": "2026-11-20T10:02:00Z"}, mode)
    assert "disk is nearly full" in messages(warned)[0] or "disk" in " ".join(messages(warned))
    assert messages(await call(folder, "search_logs", {"query": "数据库"}, mode)) == ["数据库 连接成功"]
    assert messages(await call(folder, "search_logs", {"query": "yesterday"}, mode)) == ["hub of yesterday"]


async def test_a_tail_is_oldest_first_and_a_limit_is_told(folder: Path) -> None:
    result = await call(folder, "tail_logs", {"source": "hub-0", "limit": 2})
    assert messages(result) == ["upstream weather failed after 47 ms", "数据库 连接成功"]
    assert result.structured_content["complete"] is False


async def test_statistics_count_repetitions_together(folder: Path) -> None:
    result = await call(folder, "log_statistics", {"after": "2026-11-01T00:00:00Z", "sources": ["hub-0"]})
    counts = {row["level"]: row["lines"] for row in result.structured_content["counts"]}
    assert counts == {"info": 3, "error": 2}
    assert result.structured_content["frequent_problems"] == [
        {"message": "upstream weather failed after # ms", "lines": 2}
    ]


async def test_sources_are_listed_without_links_out_of_the_folder(folder: Path) -> None:
    result = await call(folder, "list_log_sources", {})
    assert [source["name"] for source in result.structured_content["sources"]] == ["child-weather", "hub-0"]


async def test_a_runaway_pattern_is_stopped_and_a_sane_one_works(folder: Path) -> None:
    slow = await call(folder, "search_logs", {"pattern": "(a+)+$"})
    assert slow.is_error and slow.meta["dev.entrepot/error"]["code"] == "pattern-too-slow"
    assert len(messages(await call(folder, "search_logs", {"pattern": r"after \d+ ms$|after \d+ ms\""}))) == 2
    broken = await call(folder, "search_logs", {"pattern": "("})
    assert broken.is_error and broken.meta["dev.entrepot/error"]["code"] == "bad-pattern"


async def test_secrets_do_not_leave(folder: Path) -> None:
    result = await call(folder, "search_logs", {"query": "连接成功"})
    assert "abcdefghijkl" not in result.content[0].text
    assert "redacted" in result.content[0].text


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer s3cr3tvalue99",
        '{"password": "s3cr3tvalue99"}',
        "postgres://app:s3cr3tvalue99@db/x",
        "api_key=s3cr3tvalue99&x=1",
        "token ghp_s3cr3tvalue99abcdef",
        "Set-Cookie: session=s3cr3tvalue99; Path=/",
        "密码：s3cr3tvalue99",
        "-----BEGIN RSA PRIVATE KEY-----\ns3cr3tvalue99\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_what_looks_like_a_credential_is_blanked(text: str) -> None:
    assert "s3cr3tvalue99" not in redact(text)


def test_ordinary_text_stays_as_it_is() -> None:
    assert redact("GET /mcp 200 in 12 ms for 3 tokens") == "GET /mcp 200 in 12 ms for 3 tokens"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"limit": 0}, "invalid-arguments"),
        ({"limit": 501}, "invalid-arguments"),
        ({"after": "yesterday"}, "bad-time"),
        ({"sources": ["nobody"]}, "unknown-source"),
    ],
)
async def test_bad_arguments_say_what_to_do(folder: Path, arguments: dict[str, Any], code: str) -> None:
    result = await call(folder, "search_logs", arguments)
    assert result.is_error and result.meta["dev.entrepot/error"]["code"] == code
    assert result.meta["dev.entrepot/error"]["hint"]


async def test_without_a_folder_it_says_what_to_set() -> None:
    result = await call(None, "search_logs", {})
    assert result.is_error and "ENTREPOT_LOGS_DIR" in result.content[0].text
