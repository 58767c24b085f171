"""What an operator does in a terminal, against a real hub that is started once."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest

from tests.support.installation import Installation, installed

CALCULATOR = (sys.executable, str(Path(__file__).with_name("calculator.py")))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Generator[Installation]:
    """A bare hub."""
    with installed(tmp_path_factory.mktemp("cli")) as here:
        yield here


@pytest.fixture(scope="module")
def hub(bare: Installation) -> Installation:
    """The hub with the calculator behind it."""
    added = bare.json("servers", "add", "calculator", "--sandbox", "trusted", "--stdio", *CALCULATOR, "--json", "-v")
    assert added["state"] == "ready"
    return bare


def test_status_tells_where_the_hub_is(hub: Installation) -> None:
    told = hub.json("status")
    assert told["url"] == hub.url
    assert told["runner"] == "ready"
    assert f"{hub.url}/mcp" in hub.run("status", code=0).stdout


def test_a_second_start_in_the_same_home_is_refused_with_the_next_step(hub: Installation) -> None:
    refused = hub.run("up", "--bare", code=1)
    assert "already running" in refused.stderr
    assert "entrepot down" in refused.stderr


def test_a_quiet_key_is_alone_on_stdout_and_opens_the_hub_until_it_is_revoked(hub: Installation) -> None:
    token = hub.token("laptop", "admin:read")
    headers = {"authorization": f"Bearer {token}"}
    assert len(token.split()) == 1
    assert httpx.get(f"{hub.url}/api/v1/status", headers=headers).status_code == 200
    hub.run("tokens", "revoke", "laptop", code=0)
    assert httpx.get(f"{hub.url}/api/v1/status", headers=headers).status_code == 401
    assert "laptop" not in hub.run("tokens", "list").stdout
    assert "revoked" in hub.run("tokens", "list", "--all").stdout


def test_a_key_without_scopes_calls_and_administers_nothing_and_ends_when_told(hub: Installation) -> None:
    made = hub.json("tokens", "create", "short", "--expires", "2h")
    assert made["scopes"] == ["call", "models"]
    assert made["expires"] is not None
    headers = {"authorization": f"Bearer {made['token']}"}
    assert httpx.get(f"{hub.url}/api/v1/status", headers=headers).status_code == 403


def test_revoking_a_name_that_two_keys_have_asks_which(hub: Installation) -> None:
    one, two = hub.json("tokens", "create", "twin"), hub.json("tokens", "create", "twin")
    asked = hub.run("tokens", "revoke", "twin", code=1)
    assert one["id"] in asked.stderr and two["id"] in asked.stderr
    hub.run("tokens", "revoke", one["id"], code=0)
    hub.run("tokens", "revoke", "twin", code=0)
    assert hub.run("tokens", "revoke", "twin", code=4).stdout == ""


def test_an_unknown_scope_is_refused_in_the_hub_s_words(hub: Installation) -> None:
    refused = hub.run("tokens", "create", "x", "--scope", "everything", "--json", code=1)
    assert "everything" in json.loads(refused.stderr)["error"]["message"]


def test_all_that_follows_stdio_belongs_to_the_server(hub: Installation) -> None:
    assert hub.run("call", "started_with", code=0).stdout == "--json -v\n"


def test_arguments_come_as_json_as_pairs_or_from_stdin(hub: Installation) -> None:
    assert hub.run("call", "add", '{"a": 1, "b": 2}', code=0).stdout == "3\n"
    assert hub.run("call", "add", "a=1", "b=2", code=0).stdout == "3\n"
    assert hub.run("call", "add", "-", "--server", "calculator", stdin='{"a": 1, "b": 2}', code=0).stdout == "3\n"
    assert hub.json("call", "add", "a=1", "b=2")["structuredContent"] == {"result": 3}


def test_a_value_for_a_text_stays_text_and_cannot_command_the_terminal(hub: Installation) -> None:
    assert hub.run("call", "shout", "text=42", code=0).stdout == "[31m42[0m\n"


def test_progress_is_shown_beside_the_answer(hub: Installation) -> None:
    assert "1 of 2 · half way" in hub.run("call", "add", "a=1", "b=2", code=0).stderr


def test_an_error_of_a_tool_is_printed_and_ends_with_five(hub: Installation) -> None:
    assert "Error executing tool refuse" in hub.run("call", "refuse", code=5).stdout
    assert hub.json("call", "refuse", code=5)["isError"] is True


def test_a_tool_that_is_not_there_ends_with_four_and_names_a_near_one(hub: Installation) -> None:
    for arguments in ((), ("a=1",)):
        assert "Did you mean add?" in hub.run("call", "ad", *arguments, code=4).stderr


def test_arguments_that_are_no_object_are_refused_before_anything_is_called(hub: Installation) -> None:
    assert "not JSON" in hub.run("call", "add", "{a: 1}", code=1).stderr
    assert hub.run("call", "add", "12", code=2).stdout == ""


def test_a_picture_is_described_or_kept(hub: Installation, tmp_path: Path) -> None:
    assert "image image/png, 1 bytes" in hub.run("call", "picture", code=0).stdout
    hub.run("call", "picture", "--save", str(tmp_path / "kept"), code=0)
    assert [one.read_bytes() for one in (tmp_path / "kept").iterdir()] == [b"\x89"]


def test_servers_are_listed_shown_refreshed_and_removed(hub: Installation) -> None:
    hub.run("servers", "add", "second", "--sandbox", "trusted", "--title", "计算", "--stdio", *CALCULATOR, code=0)
    assert "second" in hub.run("servers", "list", code=0).stdout
    shown = hub.run("servers", "show", "second", code=0).stdout
    assert "计算" in shown
    assert "THE SERVER SAYS" in shown, "its tools collide with the calculator's, so they got other names"
    assert hub.json("servers", "refresh", "second")["state"] == "ready"
    hub.run("servers", "remove", "second", code=0)
    assert hub.run("servers", "show", "second", code=4).stdout == ""


def test_a_dry_run_shows_what_callers_would_see_and_keeps_nothing(hub: Installation) -> None:
    dry = hub.json("servers", "add", "third", "--sandbox", "trusted", "--dry-run", "--stdio", *CALCULATOR)
    assert len(dry["exposed"]) == 5
    assert "third" not in hub.run("servers", "list").stdout


def test_a_server_that_cannot_be_reached_says_so_and_keeps_secrets_to_itself(hub: Installation) -> None:
    refused = hub.run(
        "servers", "add", "gone", "http://127.0.0.1:9/mcp", "--header", "Authorization: Bearer hush", "--dry-run"
    )
    assert refused.returncode != 0 or "down" in refused.stdout
    assert "hush" not in refused.stdout + refused.stderr


def test_applying_shows_the_difference_and_twice_changes_nothing(hub: Installation, tmp_path: Path) -> None:
    file = tmp_path / "hub.yaml"
    file.write_text("collections:\n- name: sums\n  title: Sums\n  members: [calculator/add]\n")
    dry = hub.run("apply", str(file), "--dry-run", code=0)
    assert "+ collection sums" in dry.stdout and "nothing was" in dry.stderr
    assert "Applied: 1" in hub.run("apply", str(file), code=0).stderr
    assert "Nothing to change" in hub.run("apply", "-", stdin=file.read_text(), code=0).stderr
    changed = file.read_text().replace("Sums", "加法")
    assert "title: Sums → 加法" in hub.run("apply", "-", "--dry-run", stdin=changed, code=0).stdout


def test_a_file_that_is_wrong_is_refused_whole(hub: Installation) -> None:
    refused = hub.run("apply", "-", stdin="servers:\n- name: x\n  adress: nowhere\n", code=1)
    assert "adress" in refused.stderr
    assert "x" not in [row["name"] for row in hub.json("servers", "list")["servers"]]


def test_a_client_s_server_list_is_taken_over(hub: Installation) -> None:
    config = {"mcpServers": {"My Time": {"command": "uvx", "args": ["mcp-server-time"]}}}
    told = hub.json("import", "-", "--dry-run", stdin=json.dumps(config))
    assert [(one["action"], one["name"]) for one in told["changes"]] == [("create", "my-time")]
    assert "not JSON" in hub.run("import", "-", stdin="// comment", code=1).stderr


def test_models_are_added_listed_probed_and_removed(hub: Installation) -> None:
    added = hub.run("models", "add", "far", "--url", "http://127.0.0.1:9/v1", "--api-key-stdin", stdin="hush\n", code=0)
    assert "down" in added.stdout and "hush" not in added.stdout
    assert hub.json("models", "probe", "far")["state"] == "down"
    assert "far" in hub.run("models", "list", code=0).stdout
    hub.run("models", "remove", "far", code=0)
    assert hub.json("models", "list") == {"models": []}


def test_a_bare_hub_says_that_it_has_no_agents(hub: Installation) -> None:
    assert "--bare" in hub.run("ask", "librarian", "hello", code=4).stderr
    assert hub.json("agents", "list") == {"agents": []}
    assert hub.json("runs", "list") == {"runs": []}
    assert hub.run("runs", "show", "run_none", code=4).stdout == ""


def test_the_doctor_examines_what_is_not_registered(hub: Installation) -> None:
    told = hub.run("doctor", "http://127.0.0.1:9/mcp", code=1)
    assert "✗ tcp-refused" in told.stdout and "Whose: server" in told.stdout and "Next: Start the server" in told.stdout
    rows = json.loads(hub.run("doctor", f"{hub.url}/livez", "--json", code=1).stdout)["checks"]
    assert [row["name"] for row in rows if row.get("owner")] == ["wrong-path"]
    rows = json.loads(hub.run("doctor", "--stdio", "false", "--json", code=1).stdout)["checks"]
    assert [row["name"] for row in rows if row.get("owner")] == ["crash-at-start"]
    assert "not both" in hub.run("doctor", "calculator", "--stdio", "true", code=2).stderr
    assert "belongs to a URL" in hub.run("doctor", "calculator", "--header", "A: b", code=2).stderr


def test_the_doctor_looks_at_the_hub_and_into_a_server(hub: Installation) -> None:
    checks = {check["name"]: check for check in json.loads(hub.run("doctor", "--json").stdout)["checks"]}
    assert {"database", "audit", "runner", "sandbox", "python"} <= set(checks)
    assert checks["database"]["ok"]
    assert "✓ process" in hub.run("doctor", "calculator", code=0).stdout
    assert hub.run("doctor", "nobody", code=4).stdout == ""


def test_the_audit_is_searched_and_verified(hub: Installation) -> None:
    hub.run("call", "add", "a=1", "b=2", code=0)
    assert hub.run("audit", "verify", code=0).stdout.startswith("✓")
    assert hub.json("audit", "verify")["ok"] is True
    found = hub.json("audit", "search", "--event", "server:add", "--after", "1h", "--limit", "1000")["records"]
    assert "calculator" in {record["server"] for record in found}


def test_the_sign_in_link_is_alone_on_stdout_and_works_once(hub: Installation) -> None:
    link = hub.run("sign-in", code=0).stdout.strip()
    assert link.startswith(f"{hub.url}/sign-in?token=")
    assert len(link.split()) == 1


def test_logs_are_read_with_bounds(hub: Installation) -> None:
    assert len(hub.json("logs", "--limit", "2")["lines"]) <= 2
    assert {entry["source"] for entry in hub.json("logs", "--source", "hub-0")["lines"]} <= {"hub-0"}


def test_a_script_that_the_sandbox_hides_is_named_with_the_way_out(hub: Installation) -> None:
    refused = hub.run("servers", "add", "hidden", "--stdio", *CALCULATOR, code=1)
    assert f"hides {CALCULATOR[1]}" in refused.stderr
    assert "--sandbox trusted" in refused.stderr


def test_a_command_that_ends_at_once_is_refused_with_its_last_words(hub: Installation) -> None:
    refused = hub.run("servers", "add", "mute", "--stdio", "/bin/sh", "-c", "echo no harbour here >&2; exit 3", code=1)
    first = next(row for row in refused.stderr.splitlines() if row.startswith("Error:"))
    assert first == "Error: server 'mute' ended at once (exit code 3): no harbour here"
    assert "| no harbour here" in refused.stderr
    for era in ("auto", "legacy", "modern"):
        command = ("--stdio", "/bin/sh", "-c", "echo no harbour here >&2; exit 3")
        told = json.loads(
            hub.run("servers", "add", "mute", "--era", era, "--json", *command, code=1).stderr.splitlines()[-1]
        )["error"]
        assert told["message"] == "server 'mute' ended at once (exit code 3): no harbour here"
        assert (told["stderr"], told["owner"]) == ("no harbour here", "server")
    assert "mute" not in hub.run("servers", "list").stdout
