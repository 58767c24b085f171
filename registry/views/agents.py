"""The agents, what they were asked, and every step of a run."""

from __future__ import annotations

from typing import Any, cast

from registry.contexts import AgentDetail, Agents, Broken, Outcome, RunDetail, Runs
from registry.formats import pretty
from registry.hubface import Fault, read, segment
from registry.schemas import Field, as_schema, fields, fill
from registry.screens import Moved, Page, Visit, broken
from registry.shapes import Agent, Run
from registry.views.tryit import outcome_of

ENDPOINT = "/mcp/s/agents"
"""Each agent is a tool of the internal server `agents`."""
RUN = "dev.entrepot/run"
"""The key of a result's `_meta` under which the agents tell the run."""
ALIVE = ("queued", "running")


async def every(visit: Visit) -> Page:
    """GET /agents."""
    found = read(tuple[Agent, ...], await visit.hub.get("/agents"), "agents")
    return Page("pages/agents.html", Agents(found), "agents.title")


async def one(visit: Visit) -> Page:
    """GET /agents/{name}."""
    agent = await agent_of(visit)
    try:
        form, unaskable = fields(await schema_of(visit, agent.name)), None
    except Fault as fault:
        form, unaskable = (), broken(fault).context
    return await page_of(visit, agent, form, unaskable)


async def ask(visit: Visit) -> Page | Moved:
    """POST /agents/{name}: ask the agent through its tool; work that goes on as a task is shown as its run."""
    agent = await agent_of(visit)
    filled = fill(await schema_of(visit, agent.name), visit.form)
    if not filled.ok:
        return await page_of(visit, agent, filled.fields, status=422)
    params = {"name": agent.name, "arguments": filled.arguments}
    try:
        reply = await visit.hub.mcp(ENDPOINT, "tools/call", params, tasks=True)
    except Fault as fault:
        return await page_of(visit, agent, filled.fields, fault=fault)
    started = run_of(reply.result or {})
    if started and await is_run(visit, started):
        return Moved(f"/runs/{segment(started)}")
    return await page_of(visit, agent, filled.fields, outcome=outcome_of(reply))


async def runs(visit: Visit) -> Page:
    """GET /runs."""
    agent = visit.query.get("agent", "")
    found = read(tuple[Run, ...], await visit.hub.get("/runs", agent=agent, limit=100), "runs")
    return Page("pages/runs.html", Runs(found, agent), "runs.title")


async def run(visit: Visit) -> Page:
    """GET /runs/{id}."""
    found = read(Run, await visit.hub.get(f"/runs/{segment(visit.path['id'])}"))
    return Page("pages/run.html", RunDetail(found, found.state in ALIVE), "runs.one", found.id)


async def cancel(visit: Visit) -> Moved:
    """POST /runs/{id}/cancel."""
    name = visit.path["id"]
    await visit.hub.post(f"/runs/{segment(name)}/cancel")
    return Moved(f"/runs/{segment(name)}", "done.cancelled")


async def agent_of(visit: Visit) -> Agent:
    """The agent of this path. Raises Fault."""
    return read(Agent, await visit.hub.get(f"/agents/{segment(visit.path['name'])}"))


async def schema_of(visit: Visit, name: str) -> Any:
    """What the agent's tool takes, as this person may see it. Raises Fault when it is not offered."""
    cursor: dict[str, Any] = {}
    for _ in range(20):
        reply = await visit.hub.mcp(ENDPOINT, "tools/list", cursor)
        result = reply.result or {}
        for tool in cast("list[Any]", result.get("tools") or []):
            if as_schema(tool).get("name") == name:
                return as_schema(tool).get("inputSchema")
        if not result.get("nextCursor"):
            break
        cursor = {"cursor": result["nextCursor"]}
    raise Fault(503, "agent-not-offered", f"The agent {name!r} is not offered as a tool now.", owner="administrator")


def run_of(result: dict[str, Any]) -> str:
    """The run that answers a call, or nothing. A task's id does not tell: the hub seals it for its caller."""
    return str(as_schema(result.get("_meta")).get(RUN) or "")


async def is_run(visit: Visit, name: str) -> bool:
    """Whether a run of this id can be seen."""
    try:
        await visit.hub.get(f"/runs/{segment(name)}")
    except Fault:
        return False
    return True


async def page_of(
    visit: Visit,
    agent: Agent,
    form: tuple[Field, ...],
    unaskable: Broken | None = None,
    *,
    outcome: Outcome | None = None,
    fault: Fault | None = None,
    status: int = 200,
) -> Page:
    """The page in any of its states; without the runs where they cannot be had."""
    try:
        past = read(tuple[Run, ...], await visit.hub.get("/runs", agent=agent.name, limit=20), "runs")
    except Fault:
        past = ()
    told = agent.manifest if agent.manifest is not None else manifest_of(agent)
    manifest = told if isinstance(told, str) else pretty(told)
    wrong = broken(fault).context if fault else None
    context = AgentDetail(agent, manifest, form, past, unaskable, outcome, wrong)
    return Page("pages/agent.html", context, "agents.one", agent.name, status=status)


def manifest_of(agent: Agent) -> dict[str, Any]:
    """The parts of the manifest that the API tells."""
    return {
        "name": agent.name,
        "title": agent.title,
        "description": agent.description,
        "model": agent.model,
        "tools": list(agent.tools),
        "limits": agent.limits,
        "sandbox": agent.sandbox,
    }
