"""What `doctor` looks at: one function a check, each bounded in time, each with what to do."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from hub.admin_api.services import Services
from hub.catalog import packages
from hub.db.history import HUB, pending
from hub.errors import HubError
from hub.net import GuardedClient, NetError, origin_of, tls_context

CHECK_SECONDS = 5.0
SOCKET_SECONDS = 1.0
LEAST_FREE_BYTES = 2**30

Finding = tuple[bool, str, str]
"""Well or not, what was found, what to do."""


async def examine(services: Services) -> list[dict[str, Any]]:
    """All checks, in the order in which their failures explain each other."""
    findings: list[dict[str, Any]] = []
    for name, check in CHECKS:
        ok, detail, hint = False, f"No answer within {CHECK_SECONDS:.0f} s.", "Look into the logs."
        with anyio.move_on_after(CHECK_SECONDS):
            ok, detail, hint = await check(services)
        findings.append({"name": name, "ok": ok, "detail": detail, "hint": "" if ok else hint})
    return findings


async def socket_state(socket: Path) -> str:
    """`ready` when somebody listens on a local socket, else `down`."""
    with anyio.move_on_after(SOCKET_SECONDS):
        try:
            stream = await anyio.connect_unix(socket)
        except OSError:
            return "down"
        await stream.aclose()
        return "ready"
    return "down"


async def _database(services: Services) -> Finding:
    def ask() -> Finding:
        try:
            with services.database.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
            if pending(services.database, HUB):
                return (
                    False,
                    "The tables are not at this program's version.",
                    "Restart the hub: it brings them up to date.",
                )
        except SQLAlchemyError as error:
            return False, f"The database does not answer: {type(error).__name__}.", "Check ENTREPOT_DATABASE_URL."
        return True, f"{services.database.engine.dialect.name}, at this program's version.", ""

    return await anyio.to_thread.run_sync(ask, abandon_on_cancel=True)


async def _audit(services: Services) -> Finding:
    try:
        services.audit.ensure_writable()
    except HubError as error:
        return False, error.message, error.hint or "Make room or set the rights of the audit folder."
    return True, "The spool can be written.", ""


async def _disk(services: Services) -> Finding:
    free = shutil.disk_usage(services.settings.home).free
    well = free >= LEAST_FREE_BYTES
    return well, f"{free // 2**20} MiB free at {services.settings.home}.", "Make room: audit and logs need it."


async def _runner(services: Services) -> Finding:
    try:
        children = await services.runner.children()
    except HubError as error:
        return False, error.message, error.hint
    weak = [str(child.get("name")) for child in children if child.get("state") == "backing-off"]
    if weak:
        return False, f"Keep failing: {', '.join(weak[:10])}.", f"Read its log: entrepot logs --source child-{weak[0]}"
    return True, "1 child." if len(children) == 1 else f"{len(children)} children.", ""


async def _agents(services: Services) -> Finding:
    if services.settings.bare:
        return True, "Not wanted (--bare).", ""
    state = await socket_state(services.settings.agents_socket)
    return state == "ready", f"The agents worker is {state}.", "Read its log: entrepot logs --source agents"


async def _servers(services: Services) -> Finding:
    servers = services.catalog.list()
    down = [f"{server['name']} ({server['reason']})" for server in servers if server["state"] == "down"]
    if down:
        return False, f"Down: {'; '.join(down[:10])}", "Repair the server, then: entrepot servers refresh NAME"
    return True, f"{len(servers)} registered, none down.", ""


async def _models(services: Services) -> Finding:
    down = [f"{model['name']} ({model['reason']})" for model in services.models.list() if model["state"] == "down"]
    return not down, f"Down: {'; '.join(down[:10])}" if down else "None down.", "Probe it again in the registry."


async def _node(services: Services) -> Finding:
    declared = [server for server in services.catalog.list() if str(server["address"]).startswith("npm:")]
    found = packages.which("npx") is not None
    detail = "npx is there." if found else "npx is not on the PATH; no npm: server needs it now."
    if declared and not found:
        return False, f"{declared[0]['name']} needs npx, which is not on the PATH.", "Install Node.js 22 or newer."
    return True, detail, ""


async def _public_url(services: Services) -> Finding:
    """Whether the URL that clients are told leads to a hub; where none is set, its own address is told."""
    url = services.settings.public_url
    if not url:
        return True, f"None is set: clients are told {services.settings.url}.", ""
    hint = "Correct ENTREPOT_PUBLIC_URL, or have the proxy in front hand its requests on to this hub."
    client = GuardedClient(tls_context())
    try:
        got = await client.fetch(f"{services.settings.url}/livez", allowed_origins=(origin_of(url),), seconds=4)
    except NetError as error:
        return False, f"{url} cannot be reached from here: {error}", hint
    finally:
        await client.close()
    well = (got.status, got.body) == (200, b"ok\n")
    return well, f"{url} {'leads here' if well else f'answers HTTP {got.status}, and not as a hub'}.", hint


CHECKS: tuple[tuple[str, Callable[[Services], Awaitable[Finding]]], ...] = (
    ("database", _database),
    ("audit", _audit),
    ("disk", _disk),
    ("runner", _runner),
    ("agents", _agents),
    ("servers", _servers),
    ("models", _models),
    ("node", _node),
    ("public-url", _public_url),
)

CHECK_BY_NAME = dict(CHECKS)
