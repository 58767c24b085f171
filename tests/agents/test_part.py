"""What the hub mounts of the agents part: who may look and change, and what the audit says of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import anyio
import orjson
import pytest
from starlette.applications import Starlette

from agents.part import LARGEST_MANIFEST, part
from hub.audit.chain import segments
from hub.audit.recorder import Audit
from hub.db.engine import Database
from hub.identity.principal import LOCAL_ADMINISTRATOR, OPEN_CALLER
from hub.inprocess import InProcess
from hub.policy.admission import Admission
from hub.settings import Settings
from tests.agents.conftest import Running
from tests.agents.support.hub import ScriptedHub, completion
from tests.agents.test_runs import HELPER, put

pytestmark = pytest.mark.anyio
TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACED = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


@dataclass(frozen=True)
class Mounted:
    """What the hub hands to the part, and the part's face."""

    settings: Settings
    database: Database
    admission: Admission
    audit: Audit

    @property
    def face(self) -> InProcess:
        """The part in process."""
        return InProcess(Starlette(routes=part.routes(self)))

    def recorded(self) -> list[tuple[Any, ...]]:
        """Event, subject, target, outcome and detail of all records."""
        lines = [orjson.loads(line) for path in segments(self.audit.folder) for line in path.read_bytes().splitlines()]
        return [tuple(one[key] for key in ("event", "subject", "target", "outcome", "detail")) for one in lines[1:]]


@pytest.fixture
async def mounted(agents: Running) -> AsyncGenerator[Mounted]:
    """The part beside a running worker."""
    database, audit = Database(agents.settings.database), Audit(agents.settings.audit_dir, "hub-0")
    yield Mounted(agents.settings, database, Admission(), audit)
    audit.close()
    database.close()


async def test_the_hub_shows_agents_runs_and_steps_to_those_who_may_look(
    agents: Running, hub: ScriptedHub, mounted: Mounted
) -> None:
    async def model(body: dict[str, Any]) -> dict[str, Any]:
        return completion("Hello.")

    hub.model = model
    await put(agents, tools=[])
    with anyio.fail_after(30):
        await agents.ask("helper", {"question": "go"})
        listed = (await mounted.face.request(LOCAL_ADMINISTRATOR, "GET", "/api/v1/agents")).json()
        runs = (await mounted.face.request(LOCAL_ADMINISTRATOR, "GET", "/api/v1/runs?agent=helper")).json()
        run = (await mounted.face.request(LOCAL_ADMINISTRATOR, "GET", f"/api/v1/runs/{runs['runs'][0]['id']}")).json()
        refused = await mounted.face.request(OPEN_CALLER, "GET", "/api/v1/agents")
        changed = await mounted.face.request(
            LOCAL_ADMINISTRATOR, "PUT", "/api/v1/agents/helper", HELPER | {"title": "New"}
        )
        gone = await mounted.face.request(LOCAL_ADMINISTRATOR, "DELETE", "/api/v1/agents/helper")
        absent = await mounted.face.request(LOCAL_ADMINISTRATOR, "GET", "/api/v1/agents/helper")
    assert [agent["name"] for agent in listed["agents"]] == ["helper", "librarian", "operator"]
    assert run["usage"] == {"steps": 1, "input_tokens": 50, "output_tokens": 10}
    assert [(step["number"], step["kind"], step["outcome"]) for step in run["steps"]] == [
        (0, "tools", "ok"),
        (1, "model", "ok"),
    ]
    assert (refused.status, changed.json()["title"], gone.status, absent.status) == (403, "New", 204, 404)


async def test_the_audit_says_who_changed_an_agent_and_who_cancelled_a_run(
    agents: Running, hub: ScriptedHub, mounted: Mounted
) -> None:
    async def model(body: dict[str, Any]) -> dict[str, Any]:
        return completion("Hello.")

    hub.model = model
    face = mounted.face
    with anyio.fail_after(30):
        await face.request(LOCAL_ADMINISTRATOR, "PUT", "/api/v1/agents/helper", HELPER | {"tools": []})
        await face.request(LOCAL_ADMINISTRATOR, "PUT", "/api/v1/agents/helper", {"name": "another"})
        await agents.ask("helper", {"question": "go"})
        run = agents.worker.records.latest("helper")[0].id
        stopped = await face.request(LOCAL_ADMINISTRATOR, "POST", f"/api/v1/runs/{run}/cancel")
        await face.request(LOCAL_ADMINISTRATOR, "POST", "/api/v1/runs/run_none/cancel")
        await face.request(LOCAL_ADMINISTRATOR, "DELETE", "/api/v1/agents/helper")
        denied = await face.request(OPEN_CALLER, "DELETE", "/api/v1/agents/helper", headers=TRACED)
    assert (stopped.status, denied.status, denied.json()["trace"]) == (202, 403, TRACE)
    assert mounted.recorded() == [
        ("agent:change", "local:admin", "helper", "ok", "stored"),
        ("agent:change", "local:admin", "helper", "bad-request", ""),
        ("run:cancel", "local:admin", run, "ok", ""),
        ("run:cancel", "local:admin", "run_none", "not-found", ""),
        ("agent:change", "local:admin", "helper", "ok", "removed"),
        ("admin:denied", "local:open", "remove_agent", "denied", "denied: no scope admin"),
    ]


async def test_a_manifest_that_is_far_too_long_is_refused_before_anybody_reads_it(mounted: Mounted) -> None:
    long = HELPER | {"instructions": "x" * LARGEST_MANIFEST}
    answer = await mounted.face.request(LOCAL_ADMINISTRATOR, "PUT", "/api/v1/agents/helper", long)
    assert (answer.status, answer.json()["code"], mounted.recorded()) == (413, "too-large", [])


async def test_an_absent_worker_is_told_and_recorded(tmp_path: Any) -> None:
    settings = Settings.model_validate({"home": tmp_path})
    database, audit = Database(settings.database), Audit(settings.audit_dir, "hub-0")
    mounted = Mounted(settings, database, Admission(), audit)
    answer = await mounted.face.request(LOCAL_ADMINISTRATOR, "DELETE", "/api/v1/agents/helper")
    audit.close()
    database.close()
    assert (answer.status, answer.headers["content-type"]) == (503, "application/problem+json")
    assert [record[3] for record in mounted.recorded()] == ["unavailable"]
