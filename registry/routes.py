"""Every URL of the registry, in one table. Each page that shows something has a `.json` twin."""

from __future__ import annotations

from starlette.routing import Mount, Route

from registry.screens import Screens
from registry.views import add, agents, audit, connect, home, keys, limits, logs, models, servers, tryit
from registry.views.session import Session


def routes_of(screens: Screens) -> list[Route | Mount]:
    """The routes, most specific first."""
    session = Session(screens)
    page = screens.endpoint
    shown = [
        ("/servers", servers.every),
        ("/servers/{name}", servers.one),
        ("/agents", agents.every),
        ("/agents/{name}", agents.one),
        ("/runs", agents.runs),
        ("/runs/{id}", agents.run),
        ("/models", models.every),
        ("/models/{name}", models.one),
        ("/connect", connect.clients),
        ("/keys", keys.every),
        ("/limits", limits.every),
        ("/audit", audit.search),
        ("/logs", logs.search),
    ]
    changed = [
        ("/servers/new", add.add),
        ("/servers/{name}/refresh", servers.refresh),
        ("/servers/{name}/remove", servers.remove),
        ("/servers/{name}/examine", servers.examine),
        ("/agents/{name}", agents.ask),
        ("/runs/{id}/cancel", agents.cancel),
        ("/models/new", models.add),
        ("/models/{name}", models.chat),
        ("/models/{name}/remove", models.remove),
        ("/models/{name}/probe", models.probe),
        ("/connect", connect.make_key),
        ("/connect/mode", connect.set_mode),
        ("/keys", keys.create),
        ("/limits", limits.put),
        ("/limits/{name}/remove", limits.remove),
        ("/servers/{name}/promote", servers.promote),
        ("/servers/{name}/rollback", servers.roll_back),
        ("/keys/{id}/revoke", keys.revoke),
    ]
    return [
        Route("/sign-in", session.ask, methods=["GET"]),
        Route("/sign-in", session.redeem, methods=["POST"]),
        Route("/sign-out", session.sign_out, methods=["POST"]),
        Route("/static/{name}", screens.assets.serve, methods=["GET"]),
        Route("/", page(home.overview), methods=["GET"]),
        Route("/home.json", page(home.overview), methods=["GET"]),
        Route("/servers/new", page(add.form), methods=["GET"]),
        Route("/models/new", page(models.form), methods=["GET"]),
        Route("/servers/{name}/try", page(tryit.form), methods=["GET"]),
        Route("/servers/{name}/try", page(tryit.call), methods=["POST"]),
        *(Route(path, page(view), methods=["POST"]) for path, view in changed),
        *(Route(f"{path}.json", page(view), methods=["GET"]) for path, view in shown),
        *(Route(path, page(view), methods=["GET"]) for path, view in shown),
    ]
