"""The pages of limits and of a version that is tried out, in both languages."""

from __future__ import annotations

import httpx
import pytest

from tests.support.admin import ScriptedHub

pytestmark = pytest.mark.anyio


async def test_limits_are_listed_with_those_who_used_most(browser: httpx.AsyncClient) -> None:
    text = (await browser.get("/limits")).text
    for shown in ("every-key", "10/second", "key:01h: 3.5", "everybody together", "1000/day"):
        assert shown in text
    assert "所有调用方合计" in (await browser.get("/limits", headers={"accept-language": "zh-CN"})).text
    assert (await browser.get("/limits.json")).json()["limits"][0]["name"] == "every-key"


async def test_a_limit_is_set_and_removed_by_forms(browser: httpx.AsyncClient, scripted: ScriptedHub) -> None:
    page = (await browser.get("/limits")).text
    csrf = {"csrf": page.split('name="csrf" value="')[1].split('"')[0]}
    typed = csrf | {"name": "night", "principal": "*", "quota": "100/day", "concurrent": "3"}
    assert (await browser.post("/limits", data=typed, follow_redirects=False)).status_code == 303
    assert ("PUT", "/limits/night", {"principal": "*", "quota": "100/day", "concurrent": 3}) in scripted.asked
    wrong = await browser.post("/limits", data=csrf | {"name": "", "burst": "many"})
    assert wrong.status_code == 422
    assert (await browser.post("/limits/night/remove", data=csrf, follow_redirects=False)).status_code == 303
    assert ("DELETE", "/limits/night", None) in scripted.asked


async def test_both_versions_stand_side_by_side_with_what_ended_the_last(
    browser: httpx.AsyncClient, scripted: ScriptedHub
) -> None:
    scripted.servers[0]["canary"] = "weather.2"
    name = scripted.servers[0]["name"]
    page = (await browser.get(f"/servers/{name}")).text
    for shown in ("1.4", "2.0", "1,200", "0.5 %", "90.0 ms", "10 of 10 calls failed", "claude-*", "X-Canary: yes"):
        assert shown in page, shown
    csrf = {"csrf": page.split('name="csrf" value="')[1].split('"')[0]}
    for act in ("promote", "rollback"):
        answer = await browser.post(f"/servers/{name}/{act}", data=csrf, follow_redirects=False)
        assert answer.status_code == 303
        assert ("POST", f"/servers/{name}/rollout/{act}", {}) in scripted.asked or (
            "POST",
            f"/servers/{name}/rollout/{act}",
            None,
        ) in scripted.asked
