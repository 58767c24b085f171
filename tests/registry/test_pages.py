# ruff: noqa: E501 -- rows of data read best as rows
"""What a person gets from each page, in both languages, with its twin for programs."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import httpx
import orjson
import pytest
from starlette.applications import Starlette

from hub.audit.chain import segments
from hub.audit.recorder import Audit
from tests.support.admin import ScriptedHub, ScriptedSessions

pytestmark = pytest.mark.anyio

PATHS = (
    "/",
    "/servers",
    "/servers/weather",
    "/servers/weather/try?tool=forecast",
    "/servers/new",
    "/servers/new?kind=command",
    "/servers/new?kind=package",
    "/servers/new?kind=paste",
    "/agents",
    "/agents/librarian",
    "/runs",
    "/runs/run_7k2m",
    "/runs/run_live",
    "/models",
    "/models/local",
    "/connect",
    "/keys",
    "/audit",
    "/audit?verify=yes",
    "/logs",
)
CSRF = {"csrf": "csrf-of-signed-in"}


@pytest.mark.parametrize("path", PATHS)
async def test_a_page_is_whole_in_both_languages(browser: httpx.AsyncClient, path: str) -> None:
    for language, tag in (("en", "en"), ("zh", "zh-Hans")):
        answer = await browser.get(path, headers={"accept-language": language})
        assert answer.status_code == 200
        assert f'<html lang="{tag}">' in answer.text
        assert answer.text.count("<h1") == 1
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", answer.text)


@pytest.mark.parametrize("path", ["/home", "/servers", "/servers/weather", "/agents", "/agents/librarian", "/runs", "/runs/run_7k2m", "/models", "/keys", "/audit", "/logs", "/connect"])  # fmt: skip
async def test_a_page_has_a_json_twin(browser: httpx.AsyncClient, path: str) -> None:
    answer = await browser.get(f"{path}.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert isinstance(answer.json(), dict)


async def test_whoever_is_not_signed_in_is_asked_to_and_comes_back(browser: httpx.AsyncClient) -> None:
    browser.cookies.clear()
    answer = await browser.get("/servers?state=down")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=%2Fservers%3Fstate%3Ddown")
    assert (await browser.get("/servers.json")).status_code == 401


async def test_opening_the_link_spends_nothing_and_the_button_signs_in(
    browser: httpx.AsyncClient, sessions: ScriptedSessions
) -> None:
    browser.cookies.clear()
    assert "link" in (await browser.get("/sign-in?token=link")).text
    assert sessions.links == {"link"}
    answer = await browser.post("/sign-in", data={"token": "link", "next": "/servers"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/servers")
    assert (await browser.get("/servers")).status_code == 200


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"])
async def test_signing_in_never_leads_to_another_site(browser: httpx.AsyncClient, target: str) -> None:
    answer = await browser.post("/sign-in", data={"token": "link", "next": target})
    assert answer.headers["location"] == "/"


async def test_a_spent_link_is_explained(browser: httpx.AsyncClient) -> None:
    answer = await browser.post("/sign-in", data={"token": "gone"})
    assert answer.status_code == 403
    assert "no longer works" in answer.text


async def test_signing_out_ends_the_session(browser: httpx.AsyncClient, sessions: ScriptedSessions) -> None:
    await browser.post("/sign-out", data=CSRF)
    assert sessions.cookies == set()


async def test_signing_in_and_out_is_in_the_audit_and_so_is_a_spent_link(
    browser: httpx.AsyncClient, audit: Audit
) -> None:
    for token in ("link", "link", "gone"):
        await browser.post("/sign-in", data={"token": token})
    await browser.post("/sign-out", data=CSRF)
    lines = [orjson.loads(line) for line in segments(audit.folder)[0].read_bytes().splitlines()[1:]]
    assert [(one["event"], one["subject"], one["outcome"]) for one in lines] == [
        ("signin", "person:admin", "ok"),
        ("signin", "", "denied"),
        ("signin", "", "denied"),
        ("signout", "person:admin", "ok"),
    ]


async def test_nobody_signs_in_unrecorded_but_everybody_may_leave(
    browser: httpx.AsyncClient, sessions: ScriptedSessions, audit: Audit
) -> None:
    audit.folder.write_text("in the way of the folder")
    answer = await browser.post("/sign-in", data={"token": "link"})
    assert (answer.status_code, "set-cookie" in answer.headers) == (503, False)
    await browser.post("/sign-out", data=CSRF)
    assert sessions.cookies == set()


@pytest.mark.parametrize(
    "path",
    ["/servers/weather/refresh", "/servers/weather/examine", "/keys", "/keys/key_1/revoke", "/servers/new", "/connect"],
)
async def test_a_form_that_is_not_of_this_session_changes_nothing(
    browser: httpx.AsyncClient, scripted: ScriptedHub, path: str
) -> None:
    for data, headers in (({}, {}), ({"csrf": "wrong"}, {}), (CSRF, {"sec-fetch-site": "cross-site"})):
        assert (await browser.post(path, data=data, headers=headers)).status_code == 403
    assert not [asked for asked in scripted.asked if asked[0] != "GET"]


async def test_an_unhealthy_server_says_why(browser: httpx.AsyncClient) -> None:
    for path in ("/servers", "/servers/tickets"):
        assert "refused the connection" in (await browser.get(path)).text


@pytest.mark.parametrize(
    ("language", "said"), [("en", "The server&#39;s certificate has expired."), ("zh", "服务器证书已过期。")]
)
async def test_an_examination_names_each_finding_whose_it_is_and_what_to_do(
    browser: httpx.AsyncClient, language: str, said: str
) -> None:
    assert "/servers/weather/examine" in (await browser.get("/servers/weather")).text
    answer = await browser.post("/servers/weather/examine", data=CSRF, headers={"accept-language": language})
    assert answer.status_code == 200 and answer.text.count("<h1") == 1
    assert "<code>tls-expired</code>" in answer.text and said in answer.text
    assert "<code>clock-skew</code>" in answer.text and "&lt;b&gt;86400 s&lt;/b&gt;" in answer.text
    assert ("Renew the certificate." if language == "en" else "更新证书。") in answer.text
    assert ("whoever runs the identity provider" if language == "en" else "身份提供方") in answer.text


async def test_servers_are_filtered_by_state_and_words(browser: httpx.AsyncClient) -> None:
    named = (await browser.get("/servers.json?state=ready&q=graph")).json()
    assert [server["name"] for server in named["servers"]] == ["memory"]


async def test_trying_a_tool_shows_all_that_came_back(browser: httpx.AsyncClient, scripted: ScriptedHub) -> None:
    scripted.as_stream = True
    data = CSRF | {
        "tool": "forecast",
        "arg.city": "上海",
        "arg.days": "3",
        "arg.hourly": "true",
        "arg.area": '{"north": 1}',
    }
    answer = await browser.post("/servers/weather/try", data=data)
    method, path, sent = scripted.asked[-1]
    assert (method, path, sent["method"]) == ("POST", "/mcp/s/weather", "tools/call")
    assert sent["params"]["arguments"] == {"city": "上海", "days": 3, "hourly": True, "area": {"north": 1}}
    assert "data:image/png;base64," in answer.text
    assert "最高 18 °C" in answer.text
    assert sent["params"]["_meta"]["traceparent"].split("-")[1] in answer.text


async def test_a_mistake_in_a_form_is_told_beside_its_field_and_nothing_is_lost(
    browser: httpx.AsyncClient, scripted: ScriptedHub
) -> None:
    data = CSRF | {"tool": "forecast", "arg.city": "Kept", "arg.days": "three"}
    answer = await browser.post("/servers/weather/try", data=data)
    assert answer.status_code == 422
    assert 'id="arg-days-wrong"' in answer.text
    assert 'value="Kept"' in answer.text
    assert 'value="three"' in answer.text
    assert not [asked for asked in scripted.asked if asked[1].startswith("/mcp")]


async def test_a_server_is_shown_before_it_is_stored(browser: httpx.AsyncClient, scripted: ScriptedHub) -> None:
    typed = CSRF | {
        "kind": "url",
        "name": "new-one",
        "url": "https://example.com/mcp",
        "headers": "Authorization: Bearer x",
    }
    answer = await browser.post("/servers/new", data=typed | {"step": "preview"})
    assert "new-one__forecast" in answer.text
    assert scripted.asked[-1][1] == "/servers?dry_run=true"
    answer = await browser.post("/servers/new", data=typed | {"step": "confirm"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/servers/new-one")
    assert scripted.asked[-1][2] == {"name": "new-one", "url": "https://example.com/mcp", "headers": {"Authorization": "Bearer x"}}  # fmt: skip
    assert "Added new-one" in (await browser.get("/servers/new-one")).text
    assert "Added new-one" not in (await browser.get("/servers/new-one")).text


async def test_a_pasted_configuration_becomes_servers(browser: httpx.AsyncClient, scripted: ScriptedHub) -> None:
    text = '{"servers": {"time": {"command": "uvx", "args": ["mcp-server-time"]}}}'
    answer = await browser.post("/servers/new", data=CSRF | {"kind": "paste", "paste": text, "step": "preview"})
    assert "<code>time</code>" in answer.text
    await browser.post("/servers/new", data=CSRF | {"kind": "paste", "paste": text, "step": "confirm"})
    assert scripted.asked[-1][:2] == ("POST", "/import")


async def test_a_refused_server_says_who_must_act_and_keeps_what_was_typed(
    browser: httpx.AsyncClient, scripted: ScriptedHub
) -> None:
    problem = {
        "code": "server-down",
        "detail": "No answer.",
        "owner": "server",
        "hint": "Start it.",
        "trace": "ab" * 16,
    }
    scripted.refuse["/servers"] = (503, problem)
    typed = CSRF | {"kind": "url", "name": "far", "url": "https://far.example/mcp", "step": "preview"}
    answer = await browser.post("/servers/new", data=typed)
    assert answer.status_code == 503
    for told in ("No answer.", "whoever runs the server", "Start it.", "ab" * 16, 'value="https://far.example/mcp"'):
        assert told in answer.text


async def test_a_new_key_is_shown_once_and_not_kept_by_the_browser(browser: httpx.AsyncClient) -> None:
    answer = await browser.post("/keys", data=CSRF | {"name": "ci", "scopes": "call:github", "days": "30"})
    assert answer.status_code == 201
    assert "ent_7Qf2vYx0kR9sB4nT1mWc8LzA" in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert "ent_7Qf2vYx0kR9sB4nT1mWc8LzA" not in (await browser.get("/keys")).text


async def test_unknown_scopes_are_refused_beside_their_field(browser: httpx.AsyncClient) -> None:
    answer = await browser.post("/keys", data=CSRF | {"name": "ci", "scopes": "everything", "days": "30"})
    assert answer.status_code == 422
    assert 'id="scopes-wrong"' in answer.text


async def test_connecting_puts_the_new_key_into_every_configuration(browser: httpx.AsyncClient) -> None:
    answer = await browser.post("/connect", data=CSRF | {"name": "laptop", "endpoint": "s/github"})
    assert answer.text.count("Bearer ent_7Qf2vYx0kR9sB4nT1mWc8LzA") == 4
    assert answer.text.count("http://127.0.0.1:4180/mcp/s/github") >= 5


async def test_asking_an_agent_leads_to_its_run(browser: httpx.AsyncClient, scripted: ScriptedHub) -> None:
    scripted.result = {"resultType": "task", "taskId": "sealed", "_meta": {"dev.entrepot/run": "run_live"}}
    answer = await browser.post("/agents/librarian", data=CSRF | {"arg.question": "How long?"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs/run_live")
    page = await browser.get("/runs/run_live")
    assert 'data-live="3000"' in page.text
    assert 'href="/runs/run_live"' in page.text


async def test_a_model_answers_a_few_words(browser: httpx.AsyncClient) -> None:
    answer = await browser.post("/models/local", data=CSRF | {"question": "Good morning"})
    assert "Good morning, harbour." in answer.text


async def test_a_model_is_registered_probed_and_its_key_is_never_shown(
    browser: httpx.AsyncClient, scripted: ScriptedHub
) -> None:
    typed = {"name": "cloud", "kind": "chat", "url": "nonsense", "api_key": "sk-secret"}
    answer = await browser.post("/models/new", data=CSRF | typed)
    assert answer.status_code == 422
    assert "sk-secret" not in answer.text
    answer = await browser.post("/models/new", data=CSRF | typed | {"url": "https://api.example.com/v1"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/models/cloud")
    stored = next(sent for method, path, sent in scripted.asked if (method, path) == ("PUT", "/models/cloud"))
    assert (stored["url"], stored["api_key"]) == ("https://api.example.com/v1", "sk-secret")
    assert ("POST", "/models/cloud/probe", {}) in scripted.asked
    taken = await browser.post("/models/new", data=CSRF | typed | {"name": "local", "url": "https://a.example/v1"})
    assert taken.status_code == 422
    unsure = await browser.post("/models/cloud/remove", data=CSRF)
    assert unsure.headers["location"] == "/models/cloud"
    assert not any(method == "DELETE" for method, _, _ in scripted.asked)
    assert (await browser.post("/models/cloud/remove", data=CSRF | {"sure": "yes"})).headers["location"] == "/models"


async def test_keys_of_runs_and_revoked_ones_are_listed_on_request(browser: httpx.AsyncClient) -> None:
    assert "old laptop" not in (await browser.get("/keys")).text
    assert "old laptop" in (await browser.get("/keys?all=yes")).text


async def test_a_broken_chain_is_told(browser: httpx.AsyncClient, scripted: ScriptedHub) -> None:
    scripted.chain = {"ok": False, "segments": 3, "records": 9, "fault": "record 7 of w0 does not fit"}
    assert "record 7 of w0" in (await browser.get("/audit?verify=yes")).text


async def test_one_broken_part_leaves_the_overview_readable(browser: httpx.AsyncClient, scripted: ScriptedHub) -> None:
    scripted.refuse["/agents"] = (503, {"code": "unavailable", "detail": "The agents worker is away.", "owner": "hub"})
    answer = await browser.get("/")
    assert answer.status_code == 200
    assert "The agents worker is away." in answer.text
    assert "Ticket desk" in answer.text


async def test_denied_absent_and_broken_each_have_their_page(browser: httpx.AsyncClient, scripted: ScriptedHub) -> None:
    scripted.refuse["/audit"] = (
        403,
        {"code": "forbidden", "detail": "admin:read is needed.", "owner": "administrator"},
    )
    scripted.refuse["/logs"] = (502, {"code": "server-failed", "detail": "The logs are away.", "owner": "hub"})
    told = {"/audit": (403, "Not allowed"), "/servers/absent": (404, "Not found"), "/logs": (502, "Something is down")}
    for path, (status, title) in told.items():
        answer = await browser.get(path)
        assert (answer.status_code, title in answer.text) == (status, True)


async def test_an_empty_hub_has_a_next_step_on_every_page(browser: httpx.AsyncClient, scripted: ScriptedHub) -> None:
    scripted.servers, scripted.agents, scripted.models, scripted.runs = [], [], [], []
    scripted.records, scripted.tokens = [], []
    for path in ("/", "/servers", "/agents", "/runs", "/models", "/audit", "/keys"):
        assert 'class="empty"' in (await browser.get(path)).text


async def test_the_language_is_chosen_kept_and_otherwise_the_browsers(browser: httpx.AsyncClient) -> None:
    assert "服务器" in (await browser.get("/servers", headers={"accept-language": "fr, zh-CN;q=0.8, en;q=0.5"})).text
    assert "服务器" in (await browser.get("/servers?lang=zh")).text
    assert "服务器" in (await browser.get("/servers", headers={"accept-language": "en"})).text


async def test_static_files_are_kept_for_good_under_their_digest(browser: httpx.AsyncClient) -> None:
    page = await browser.get("/sign-in?token=x")
    path = re.search(r'href="(/static/harbour\.[0-9a-f]{12}\.css)"', page.text)
    assert path is not None
    answer = await browser.get(path[1])
    assert "immutable" in answer.headers["cache-control"]
    assert (await browser.get("/static/harbour.css")).status_code == 404


async def test_a_query_that_looks_like_a_path_stays_a_query(pages: Starlette, browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/servers/weather/try?" + urlencode({"tool": "../../keys"}))
    assert answer.status_code == 404
