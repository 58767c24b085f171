"""What the command line says and does when no hub runs."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from hub.audit.recorder import Audit
from hub.identity.principal import LOCAL_ADMINISTRATOR
from tests.support.installation import Installation, free_port


def test_the_doctor_says_why_a_hub_would_not_start(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        here = Installation(tmp_path, taken.getsockname()[1])
        checks = {one["name"]: one for one in json.loads(here.run("doctor", "--json", code=3).stdout)["checks"]}
    assert not checks["hub"]["ok"]
    assert not checks["address"]["ok"]
    assert "ENTREPOT_PORT" in checks["address"]["hint"]
    assert checks["home"]["ok"] and checks["disk"]["ok"] and checks["python"]["ok"]


def test_the_doctor_makes_nothing_in_a_home_that_is_not_there(tmp_path: Path) -> None:
    here = Installation(tmp_path / "not" / "yet", free_port())
    told = here.run("doctor", code=3).stdout
    assert "✗ hub" in told and "Next: `entrepot up --detach`" in told
    assert not (tmp_path / "not").exists()


def test_an_error_is_json_on_stderr_when_json_was_asked_for(tmp_path: Path) -> None:
    refused = Installation(tmp_path, free_port()).run("status", "--json", code=3)
    assert refused.stdout == ""
    assert json.loads(refused.stderr)["error"]["hint"].startswith("`entrepot up")


def test_stopping_what_does_not_run_is_no_error(tmp_path: Path) -> None:
    assert Installation(tmp_path, free_port()).json("down") == {"stopped": False}


def test_the_audit_can_be_verified_without_a_hub_and_shows_a_changed_record(tmp_path: Path) -> None:
    here = Installation(tmp_path, free_port())
    audit = Audit(tmp_path / "audit", "hub-0")
    with audit.recording("key:create", LOCAL_ADMINISTRATOR, target="key_1") as record:
        record.outcome = "ok"
    audit.close()
    assert here.json("audit", "verify")["ok"] is True
    segment = next((tmp_path / "audit").iterdir())
    segment.write_bytes(segment.read_bytes().replace(b"key_1", b"key_2"))
    changed = here.run("audit", "verify", code=1)
    assert changed.stdout.startswith("✗")
