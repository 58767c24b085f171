"""The registry of models, as the admin API and the requests see it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from sqlmodel import select

from hub.errors import InvalidParams, NotFound
from hub.inference.models import ModelRow
from hub.inference.registry import Models
from hub.inference.spec import models_from_apply
from tests.hub.inference.support import Face, a_face
from tests.support.engine import Exchange, FakeEngine

pytestmark = pytest.mark.anyio


@pytest.fixture
async def face(tmp_path: Path) -> AsyncGenerator[Face]:
    async with a_face(tmp_path) as face:
        yield face


async def test_a_key_is_stored_sealed_and_never_shown(face: Face) -> None:
    shown = await face.models.put("gpt", {"url": "https://api.example.com/v1/", "api_key": "sk-secret"})
    assert (shown["url"], shown["has_key"], shown["state"]) == ("https://api.example.com/v1", True, "new")
    assert "sk-secret" not in str(shown) + repr(face.models.find("gpt"))
    with face.database.session() as session:
        stored = session.exec(select(ModelRow)).one().api_key
    assert stored
    assert "sk-secret" not in stored


async def test_putting_what_was_shown_keeps_the_key_and_changes_nothing(face: Face) -> None:
    shown = await face.models.put("gpt", {"url": "https://api.example.com/v1", "api_key": "sk-secret"})
    assert await face.models.put("gpt", shown) == shown
    model = face.models.find("gpt")
    assert model is not None
    assert model.api_key == "sk-secret"
    assert (await face.models.put("gpt", shown | {"api_key": ""}))["has_key"] is False


async def test_a_restarted_hub_knows_the_same_models(face: Face) -> None:
    shown = await face.models.put("m", {"url": "http://e/v1", "api_key": "k", "parameters": {"max_tokens": 5}})
    again = Models(face.database, face.keyring, face.relay)
    await again.load()
    assert again.list() == [shown]
    assert again.find("m") == face.models.find("m")


async def test_a_model_that_is_switched_off_or_removed_is_not_served(face: Face) -> None:
    await face.models.put("m", {"url": "http://e/v1", "enabled": False})
    assert face.models.find("m") is None
    assert [model["enabled"] for model in face.models.list()] == [False]
    await face.models.remove("m")
    assert face.models.list() == []
    with pytest.raises(NotFound):
        await face.models.remove("m")


@pytest.mark.parametrize(
    ("name", "spec", "wrong"),
    [
        ("a/b", {"url": "http://e"}, "a/b"),
        ("m", {"url": "ftp://e"}, "url"),
        ("m", {}, "url"),
        ("m", {"url": "https://e", "socket": "/x"}, "socket"),
        ("m", {"url": "http://e", "kind": "image"}, "kind"),
        ("m", {"url": "http://e", "typo": 1}, "typo"),
    ],
)
async def test_a_bad_declaration_says_what_is_wrong(face: Face, name: str, spec: dict[str, str], wrong: str) -> None:
    with pytest.raises(InvalidParams, match=wrong):
        await face.models.put(name, spec)


async def test_a_plan_tells_changes_without_making_them(face: Face) -> None:
    await face.models.put("kept", {"url": "http://e/v1"})
    await face.models.put("moved", {"url": "http://e/v1", "api_key": "old"})
    specs = models_from_apply(
        [
            {"name": "kept", "url": "http://e/v1"},
            {"name": "moved", "url": "http://f/v1", "api_key": "new"},
            {"name": "added", "url": "http://g/v1"},
        ]
    )
    plan = face.models.plan(specs)
    assert [(change["name"], change["action"]) for change in plan] == [
        ("kept", "none"),
        ("moved", "update"),
        ("added", "create"),
    ]
    assert plan[1]["diff"] == {
        "url": {"from": "http://e/v1", "to": "http://f/v1"},
        "api_key": {"from": "set", "to": "set"},
    }
    assert face.models.find("added") is None


async def test_a_probe_tells_ready_degraded_and_down(face: Face, tmp_path: Path) -> None:
    async def listing(exchange: Exchange) -> None:
        assert exchange.path == "/v1/models"
        await exchange.answer({"data": [{"id": "llama"}]})

    spec = {"url": "http://e/v1", "socket": str(tmp_path / "e.sock")}
    await face.models.put("good", spec | {"remote_name": "llama"})
    await face.models.put("wrong", spec | {"remote_name": "qwen"})
    async with FakeEngine(tmp_path / "e.sock", listing):
        assert (await face.models.probe("good"))["state"] == "ready"
        assert (await face.models.probe("wrong"))["state"] == "degraded"
    await face.relay.close()
    down = await face.models.probe("good")
    assert (down["state"], down["reason"]) == ("down", "The endpoint of model 'good' cannot be reached.")
