"""What scopes allow, and that lists, calls and error texts agree about it."""

from __future__ import annotations

import pytest

from hub.catalog.snapshot import Target
from hub.errors import Forbidden, HubError, InvalidParams, NotFound
from hub.identity.principal import LOCAL_ADMINISTRATOR, OPEN_CALLER, Principal
from hub.policy.actions import ACTIONS
from hub.policy.admission import Admission, unknown

TARGETS = tuple(
    Target(server, "tool", name, f"{server}__{name}", b"{}", "d")
    for server, name in (("rag", "search"), ("rag", "ingest"), ("logs", "search"), ("*", "odd"), ("ragged", "search"))
)


def holder(*scopes: str) -> Principal:
    return Principal("key:x", "x", "service", frozenset(scopes))


def seen(*scopes: str) -> list[str]:
    return [f"{one.server}/{one.name}" for one in Admission().visible(holder(*scopes), TARGETS)]


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        (["call:rag"], ["rag/search", "rag/ingest"]),
        (["call:rag/search"], ["rag/search"]),
        (["call:*"], ["*/odd"]),
        (["call:RAG"], []),
        (["models", "admin"], []),
        (["call:"], []),
        (["call:rag\0"], []),
        (["", "*", "CALL"], []),
        ([], []),
    ],
)
def test_a_list_shows_what_the_scopes_name_and_nothing_else(scopes: list[str], expected: list[str]) -> None:
    assert seen(*scopes) == expected


def test_who_may_call_everything_gets_the_very_same_list() -> None:
    assert Admission().visible(holder("call"), TARGETS) is TARGETS


@pytest.mark.parametrize("scopes", [["call"], ["call:rag"], ["call:rag/search", "call:logs"], ["models"], []])
def test_what_is_listed_can_be_called_and_what_is_not_cannot(scopes: list[str]) -> None:
    """CVE-2026-46519: an allow-list that held for tools/list only."""
    admission, principal = Admission(), holder(*scopes)
    listed = set(admission.visible(principal, TARGETS))
    for target in TARGETS:
        for action in ("tool:call", "prompt:get", "resource:read"):
            assert admission.decide(principal, action, target.server, target.name).allow == (target in listed)


@pytest.mark.parametrize("action", ["tool:call", "prompt:get", "resource:read", "model:use"])
def test_a_denied_name_looks_exactly_like_an_absent_one(action: str) -> None:
    absent = unknown(action, "secret-thing")
    with pytest.raises(HubError) as denied:
        Admission().require(holder(), action, "rag", "hidden", exposed="secret-thing")
    told, expected = denied.value, absent
    assert (told.message, told.rpc, told.status, told.envelope()) == (
        expected.message, expected.rpc, expected.status, expected.envelope()
    )  # fmt: skip
    assert isinstance(told, NotFound if action == "model:use" else InvalidParams)
    assert told.reason.startswith("denied")


def test_models_are_allowed_by_name() -> None:
    admission = Admission()
    assert admission.decide(holder("models"), "model:use", name="small").allow
    assert admission.decide(holder("models:small"), "model:use", name="small").allow
    assert not admission.decide(holder("models:small"), "model:use", name="smaller").allow
    assert not admission.decide(holder("models:*"), "model:use", name="small").allow
    assert not admission.decide(holder("call", "admin"), "model:use", name="small").allow


def test_reading_and_writing_the_admin_api_are_two_rights() -> None:
    """CVE-2026-35029: a change without the administrator's role."""
    admission = Admission()
    assert admission.decide(holder("admin:read"), "admin:read").allow
    with pytest.raises(Forbidden) as refused:
        admission.require(holder("admin:read"), "admin:write")
    assert refused.value.envelope()["scopes"] == ["admin"]
    assert admission.require(LOCAL_ADMINISTRATOR, "admin:write").allow
    with pytest.raises(Forbidden):
        admission.require(OPEN_CALLER, "admin:read")


def test_every_action_is_refused_without_scopes_and_so_is_an_unknown_one() -> None:
    admission = Admission()
    for action in ACTIONS:
        assert not admission.decide(holder(), action.name, "s", "n").allow
    assert not admission.decide(LOCAL_ADMINISTRATOR, "tool:Call", "s", "n").allow
    with pytest.raises(Forbidden):
        admission.require(LOCAL_ADMINISTRATOR, "")


def test_a_decision_names_its_rule() -> None:
    admission = Admission()
    assert admission.decide(holder("call:rag"), "tool:call", "rag", "x").rule == "scope call:rag"
    assert admission.decide(holder("call:rag/x"), "tool:call", "rag", "x").rule == "scope call:rag/x"
    assert "no scope" in admission.decide(holder(), "tool:call", "rag", "x").rule
