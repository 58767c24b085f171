"""What is recorded, what survives, what is noticed, and what happens when nothing can be recorded."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest

from hub.audit import chain
from hub.audit.events import EVENTS
from hub.audit.indexer import Indexer
from hub.audit.query import Filters, cursor, search
from hub.audit.recorder import Audit
from hub.db.engine import Database
from hub.db.migrate import HUB, upgrade
from hub.errors import Forbidden, InvalidParams, Unavailable, UpstreamTimeout
from hub.identity.principal import Principal
from hub.policy.admission import Admission

RUN = Principal("run:1", "run", "run", on_behalf_of="person:admin")
NOBODY = Principal("key:x", "x", "service")


class Clock:
    moment = 1_800_000_000.0

    def __call__(self) -> float:
        self.moment += 1
        return self.moment


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[Audit]:
    audit = Audit(tmp_path / "audit", "hub-0", Clock())
    yield audit
    audit.close()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'test.db'}")
    upgrade(database, HUB)
    yield database
    database.close()


def records(folder: Path) -> list[dict[str, Any]]:
    lines = [orjson.loads(line) for path in chain.segments(folder) for line in path.read_bytes().splitlines()]
    return [line for line in lines if line["event"] != "segment:open"]


def test_a_record_says_who_did_what_for_whom_with_which_outcome(audit: Audit) -> None:
    with audit.recording("tool:call", RUN, server="rag", trace="t") as record:
        record.target = "search"
    (line,) = records(audit.folder)
    assert line["milliseconds"] >= 0
    assert {name: line[name] for name in line if name not in ("milliseconds", "hash", "at")} == {
        "number": 2, "event": "tool:call", "subject": "run:1", "on_behalf_of": "person:admin", "server": "rag",
        "target": "search", "outcome": "ok", "trace": "t", "detail": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("error", "outcome", "detail"),
    [
        (Forbidden("no", reason="rule 7"), "denied", "rule 7"),
        (UpstreamTimeout("slow"), "server-timeout", "slow"),
        (InvalidParams("Unknown tool: x"), "invalid-params", "Unknown tool: x"),
        (asyncio.CancelledError(), "cancelled", ""),
        (KeyError("secret"), "internal", "KeyError"),
    ],
)
def test_an_exception_decides_the_outcome_and_goes_on(
    audit: Audit, error: BaseException, outcome: str, detail: str
) -> None:
    with pytest.raises(type(error)), audit.recording("tool:call", NOBODY):
        raise error
    (line,) = records(audit.folder)
    assert (line["outcome"], line["detail"]) == (outcome, detail)


def test_a_denial_that_looks_like_an_unknown_name_is_a_denial_in_the_audit(audit: Audit) -> None:
    with pytest.raises(InvalidParams), audit.recording("tool:call", NOBODY):
        Admission().require(NOBODY, "tool:call", "rag", "search")
    assert records(audit.folder)[0]["outcome"] == "denied"


@pytest.mark.anyio
async def test_a_cancelled_call_is_recorded(audit: Audit) -> None:
    with anyio.move_on_after(0.01), audit.recording("tool:call", NOBODY):
        await anyio.sleep_forever()
    assert records(audit.folder)[0]["outcome"] == "cancelled"


def test_strange_and_long_names_do_not_stop_the_record(audit: Audit) -> None:
    for target in ("\ud800", 'a\nb\0"}', "x" * 10**6):
        with audit.recording("tool:call", None, target=target):
            pass
    assert len(records(audit.folder)) == 3
    assert chain.verify(audit.folder).ok


def test_segments_rotate_and_restarts_go_on_with_the_chain(tmp_path: Path) -> None:
    for _ in range(3):
        audit = Audit(tmp_path, "hub-0", segment_bytes=1500)
        for _ in range(20):
            with audit.recording("tool:call", NOBODY):
                pass
        audit.close()
    other = Audit(tmp_path, "hub-1")
    with other.recording("tool:call", NOBODY):
        pass
    other.close()
    report = chain.verify(tmp_path)
    assert report.ok and report.segments > 6 and report.records == 61 + report.segments
    chain.segments(tmp_path)[2].unlink()
    assert "is missing" in chain.verify(tmp_path).faults[0].message


def test_threads_write_one_whole_chain(audit: Audit) -> None:
    def write() -> None:
        for _ in range(200):
            with audit.recording("tool:call", NOBODY):
                pass

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    report = chain.verify(audit.folder)
    assert report.ok and report.records == 801


def written(audit: Audit, count: int) -> Path:
    for number in range(count):
        with audit.recording("tool:call", NOBODY, target=f"tool-{number}"):
            pass
    return chain.segments(audit.folder)[-1]


def test_a_changed_removed_or_exchanged_record_is_found(audit: Audit) -> None:
    path = written(audit, 5)
    good = path.read_bytes()
    lines = good.splitlines(keepends=True)
    forged = {
        "changed": good.replace(b"tool-2", b"tool-9"),
        "removed": b"".join(lines[:3] + lines[4:]),
        "exchanged": b"".join([*lines[:2], lines[3], lines[2], *lines[4:]]),
        "beheaded": b"".join(lines[1:]),
        "garbage": b"".join([*lines[:2], b"{}\n", *lines[3:]]),
        "resealed": b"".join([*lines[:3], chain.seal("", b'{"number":4}')[0], *lines[4:]]),
    }
    for name, content in forged.items():
        path.write_bytes(content)
        report = chain.verify(audit.folder)
        assert not report.ok and len(report.faults) == 1, name
    path.write_bytes(good)
    assert chain.verify(audit.folder).ok


@pytest.mark.anyio
async def test_a_torn_last_line_is_told_and_tolerated(audit: Audit, database: Database) -> None:
    path = written(audit, 3)
    audit.close()
    with path.open("ab") as file:
        file.write(b'{"number":5,"event":"tool:c')
    restarted = Audit(audit.folder, "hub-0")
    with restarted.recording("tool:call", NOBODY):
        pass
    restarted.close()
    report = chain.verify(audit.folder)
    assert report.ok and report.torn == (path.name,) and report.records == 6
    assert await Indexer(audit.folder, database).catch_up() > 0
    assert len(await search(database)) == 4


def test_kill_9_loses_no_acknowledged_record(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\nfrom hub.audit.recorder import Audit\n"
        "audit = Audit(pathlib.Path(sys.argv[1]), 'hub-0')\nnumber = 0\n"
        "while True:\n"
        "    with audit.recording('tool:call', None, target=str(number)): pass\n"
        "    print(number, flush=True)\n    number += 1\n"
    )
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(root)},
    ) as child:
        assert child.stdout is not None
        acknowledged = [child.stdout.readline() for _ in range(50)]
        child.send_signal(signal.SIGKILL)
        acknowledged += child.stdout.read().splitlines()
    kept = {line["target"] for line in records(tmp_path)}
    assert {line.decode().strip() for line in acknowledged if line.strip().isdigit()} <= kept
    assert chain.verify(tmp_path).ok


def test_what_cannot_be_recorded_is_not_done(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    folder.write_text("in the way")
    audit = Audit(folder, "hub-0")
    done: list[int] = []
    with pytest.raises(Unavailable), audit.recording("tool:call", NOBODY):
        done.append(1)
    with pytest.raises(Unavailable), audit.recording("tool:call", NOBODY):
        done.append(2)
    # The first failure comes to light after its body; from then on nothing runs until records can be kept.
    assert done == [1]
    folder.unlink()
    with audit.recording("tool:call", NOBODY):
        done.append(3)
    audit.close()
    assert done == [1, 3] and len(records(folder)) == 1


def test_a_full_disk_leaves_no_half_line_and_the_body_s_own_error_stays(
    audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(audit, 2)
    real = os.write
    with monkeypatch.context() as disk:
        disk.setattr(os, "write", lambda descriptor, line: real(descriptor, line[: len(line) // 2]))  # pyright: ignore
        with pytest.raises(Unavailable), audit.recording("tool:call", NOBODY):
            pass
        with pytest.raises(Unavailable), audit.recording("tool:call", NOBODY):
            pytest.fail("the body ran although nothing can be recorded")
    with audit.recording("tool:call", NOBODY):
        pass
    report = chain.verify(audit.folder)
    assert report.ok and len(records(audit.folder)) == 3


@pytest.mark.anyio
async def test_the_index_follows_the_spool_and_resumes_without_doubles(audit: Audit, database: Database) -> None:
    written(audit, 10)
    assert await Indexer(audit.folder, database).catch_up() >= 10
    written(audit, 5)
    restarted, twin = Indexer(audit.folder, database), Indexer(audit.folder, database)
    await restarted.catch_up()
    await twin.catch_up()
    assert [one["target"] for one in await search(database, limit=6)] == [f"tool-{n}" for n in (4, 3, 2, 1, 0, 9)]
    assert len(await search(database)) == 15


@pytest.mark.anyio
async def test_a_spoiled_line_hides_no_other_record_and_both_ways_of_reading_agree(
    audit: Audit, database: Database
) -> None:
    with audit.recording("tool:call", RUN, server="日志", target='quo"te', trace="t" * 32) as record:
        record.detail = "tab\tand\u2028more"
    Indexer(audit.folder, database).index_batch()
    whole = await search(database)
    (segment,) = chain.segments(audit.folder)
    with segment.open("ab") as file:
        file.write(b"not json\n" + segment.read_bytes().splitlines(keepends=True)[-1].replace(b":2,", b":3,", 1))
    Indexer(audit.folder, database).index_batch()
    first, second = (one | {"number": 0} for one in await search(database))
    assert first == second == whole[0] | {"number": 0}


@pytest.mark.anyio
async def test_the_index_catches_up_after_a_database_outage(
    audit: Audit, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.audit.indexer.OUTAGE_SECONDS", 0.01)
    monkeypatch.setattr("hub.audit.indexer.PAUSE_SECONDS", 0.01)
    with database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE audit RENAME TO gone")
    written(audit, 3)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(audit.index_forever, database)
            await anyio.sleep(0.05)
            with database.engine.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE gone RENAME TO audit")
            while len(await search(database)) < 3:
                await anyio.sleep(0.01)
            group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_records_are_found_by_who_what_and_when_page_by_page(audit: Audit, database: Database) -> None:
    with audit.recording("tool:call", RUN, server="rag", target="search"):
        pass
    with pytest.raises(Forbidden), audit.recording("tool:call", NOBODY, server="logs", target="tail", trace="t1"):
        raise Forbidden("no")
    written(audit, 5)
    await Indexer(audit.folder, database).catch_up()
    for filters in (Filters(subject="person:admin"), Filters(server="rag"), Filters(target="search")):
        assert [one["subject"] for one in await search(database, filters)] == ["run:1"]
    for filters in (Filters(outcome="denied"), Filters(trace="t1")):
        assert [one["server"] for one in await search(database, filters)] == ["logs"]
    everything = await search(database)
    paged: list[dict[str, Any]] = []
    while page := await search(database, limit=2, before=cursor(paged[-1]) if paged else ""):
        paged += page
    assert paged == everything and len(everything) == 7
    with pytest.raises(InvalidParams):
        await search(database, before="nonsense")


def test_every_event_has_one_name_and_documentation() -> None:
    names = [event.name for event in EVENTS]
    assert len(set(names)) == len(names)
    assert all((event.__doc__ or "").endswith(".") for event in EVENTS)


def test_every_event_that_is_recorded_is_documented() -> None:
    root = Path(__file__).parents[3]
    written = "".join(
        path.read_text() for folder in ("hub", "agents", "registry") for path in root.glob(f"{folder}/**/*.py")
    )
    assert set(re.findall(r'\.recording\(\s*"([a-z:]+)"\s*,', written)) <= {event.name for event in EVENTS}
