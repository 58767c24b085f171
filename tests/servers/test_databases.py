"""The databases server: what it shows, and that nothing can be changed through it."""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

from servers.databases.readonly import NotReadOnly, check
from servers.databases.server import application
from servers.kit import Environment

pytestmark = pytest.mark.anyio
MODES = ["legacy", "2026-07-28"]


async def call(values: dict[str, str], tool: str, arguments: dict[str, Any], mode: str = "2026-07-28") -> Any:
    with anyio.fail_after(20):
        async with Client(application(Environment(values)).server, mode=mode) as client:
            return await client.call_tool(tool, arguments)


@pytest.fixture
def sample(tmp_path: Path) -> dict[str, str]:
    return {"ENTREPOT_STATE_DIR": str(tmp_path / "state"), "ENTREPOT_DATABASES_SECONDS": "1"}


@pytest.mark.parametrize("mode", MODES)
async def test_a_new_user_finds_a_sample_to_look_into(sample: dict[str, str], mode: str) -> None:
    listed = await call(sample, "list_databases", {}, mode)
    assert [row["name"] for row in listed.structured_content["databases"]] == ["sample"]
    tables = await call(sample, "list_tables", {"database": "sample"}, mode)
    assert {row["name"] for row in tables.structured_content["tables"]} >= {"employees", "ships", "cargo_by_month"}
    described = (
        await call(sample, "describe_table", {"database": "sample", "table": "employees"}, mode)
    ).structured_content
    assert described["foreign_keys"] == [{"columns": ["department_id"], "table": "departments", "references": ["id"]}]
    query = {"database": "sample", "sql": "SELECT name FROM ships WHERE flag = ?", "parameters": ["CN"]}
    assert (await call(sample, "query", query, mode)).structured_content["rows"] == [["海星"]]
    plan = await call(
        sample, "explain_query", {"database": "sample", "sql": "SELECT * FROM shipments WHERE arrived = '1'"}, mode
    )
    assert "shipments_arrived" in plan.structured_content["steps"][0]["detail"]


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM ships",
        "SELECT 1; DROP TABLE ships",
        "ATTACH DATABASE '/tmp/x.db' AS x",
        "PRAGMA query_only = OFF",
        "PRAGMA journal_mode(wal)",
        "SELECT load_extension('/tmp/x.so')",
        "WITH x AS (SELECT 1) INSERT INTO ships SELECT 9,'a','b',1",
        "VACUUM INTO '/tmp/copy.db'",
        "CREATE TEMP TABLE t (a)",
        "SELECT writefile('/tmp/x', 'y')",
        "EXPLAIN ATTACH DATABASE 'x' AS y",
        "",
        "-- nothing",
        "SELECT * FROM ships WHERE name = 'a' /*",
    ],
)
async def test_whatever_does_not_only_read_is_refused(sample: dict[str, str], sql: str) -> None:
    result = await call(sample, "query", {"database": "sample", "sql": sql or " "})
    assert result.is_error
    assert result.meta["dev.entrepot/error"]["code"] == "not-read-only"


@pytest.mark.parametrize(
    "sql", ["DELETE FROM ships", "PRAGMA user_version = 7", "ATTACH 'x' AS y", "CREATE TEMP TABLE t (a)"]
)
async def test_the_connection_itself_refuses_writes_when_the_parser_is_fooled(
    sample: dict[str, str], sql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fooled(statement: str, dialect: str = "sqlite") -> None:
        """Let everything through."""

    monkeypatch.setattr("servers.databases.connections.check", fooled)
    result = await call(sample, "query", {"database": "sample", "sql": sql})
    assert result.is_error and result.meta["dev.entrepot/error"]["code"] == "query-failed"


async def test_rows_bytes_and_seconds_are_limited(sample: dict[str, str]) -> None:
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
    cut = await call(sample, "query", {"database": "sample", "sql": many, "limit": 10})
    assert len(cut.structured_content["rows"]) == 10 and cut.structured_content["truncated"] == "rows"
    slow = await call(
        sample, "query", {"database": "sample", "sql": many.replace("SELECT i FROM", "SELECT count(*) FROM")}
    )
    assert slow.is_error and slow.meta["dev.entrepot/error"]["code"] == "timeout"
    wide = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT printf('%.*c', 15000, 'x') FROM n"
    fat = await call(sample, "query", {"database": "sample", "sql": wide})
    assert fat.structured_content["truncated"] == "bytes"


async def test_only_databases_of_the_folder_are_found(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "shop.db")
    connection.execute("CREATE TABLE 商品 (名称 TEXT, 价格 REAL)")
    connection.execute("INSERT INTO 商品 VALUES ('茶', 12.5)")
    connection.commit()
    connection.close()
    (tmp_path / "notes.db").write_text("not a database")
    (tmp_path / "link.db").symlink_to(tmp_path / "shop.db")
    values = {"ENTREPOT_DATABASES": str(tmp_path)}
    listed = await call(values, "list_databases", {})
    assert [row["name"] for row in listed.structured_content["databases"]] == ["shop"]
    found = await call(values, "query", {"database": "shop", "sql": "SELECT 名称, 价格 FROM 商品 WHERE 名称 = '茶'"})
    assert found.structured_content["rows"] == [["茶", 12.5]]
    unknown = await call(values, "query", {"database": "../shop", "sql": "SELECT 1"})
    assert unknown.is_error and unknown.meta["dev.entrepot/error"]["code"] == "unknown-database"


POLICY = {
    "EXPLAIN ANALYZE\n    SELECT id, name FROM users",  # another source of the set allows the same statement
    "CREATE EXTENSION IF NOT EXISTS hypopg",  # a tuning assistant's privilege, not a reader's
}


def test_the_statement_check_meets_its_figures_on_other_projects_cases(capsys: pytest.CaptureFixture[str]) -> None:
    data = os.environ.get("ENTREPOT_TEST_DATA")
    if not data:
        pytest.skip("set ENTREPOT_TEST_DATA to the folder of evaluation data")
    right = {"allow": 0, "deny": 0}
    total = {"allow": 0, "deny": 0}
    wrong: list[str] = []
    with gzip.open(Path(data) / "sql" / "readonly_cases.jsonl.gz", "rt", encoding="utf-8") as stream:
        for case in map(json.loads, stream):
            try:
                check(case["sql"], case["dialect"])
                verdict = "allow"
            except NotReadOnly:
                verdict = "deny"
            total[case["expect"]] += 1
            right[case["expect"]] += verdict == case["expect"]
            if verdict != case["expect"]:
                wrong.append(case["sql"])
    with capsys.disabled():
        print(f"\nread-only check: blocked {right['deny']}/{total['deny']}, passed {right['allow']}/{total['allow']}")
    assert set(wrong) <= POLICY
    assert right["allow"] >= 0.97 * total["allow"]
