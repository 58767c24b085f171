"""`entrepot audit`: who did what, and whether the record of it is whole."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from hub.audit import chain
from hub.cli.client import LONG_SECONDS, AdminClient
from hub.cli.command import Duration, Group, json_option, read_settings
from hub.cli.console import NotRunning
from hub.cli.show import counted, moment, print_json, print_table


class Moment(click.ParamType[str]):
    """A moment in ISO 8601 (UTC unless it says otherwise), or how long ago: `2h`."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """ISO 8601 with its zone."""
        if re.fullmatch(r"\d+[smhdw]", str(value)):
            ago = timedelta(seconds=Duration().convert(value, param, ctx))
            return (datetime.now(UTC) - ago).isoformat()
        try:
            read = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no moment; write 2h (ago) or 2026-01-31T08:00", param, ctx)
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).isoformat()


@click.group(cls=Group)
def audit() -> None:
    """Search the audit and verify that nothing in it was changed."""


@audit.command(example="entrepot audit search --outcome denied --after 2h")
@click.option("--subject", default="", help="Who: key:ID, person:NAME, local:admin.")
@click.option("--event", default="", help="What: tool:call, key:create, …")
@click.option("--server", default="", help="The server it went to.")
@click.option("--target", default="", help="The tool, key or other thing it was done to.")
@click.option("--outcome", default="", help="ok, denied, failed, …")
@click.option("--trace", default="", help="The trace id of one request.")
@click.option("--after", type=Moment(), help="Not before this moment, or 2h for two hours ago.")
@click.option("--before", type=Moment(), help="Before this moment.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Most records.")
@click.option("--cursor", default="", help="Where the page before ended.")
@json_option
def search(as_json: bool, **query: Any) -> None:
    """Records of the audit, newest first."""
    found = AdminClient(read_settings()).get("/audit", **query)
    if as_json:
        print_json(found)
        return
    print_table(
        ("AT (UTC)", "EVENT", "OUTCOME", "WHO", "SERVER", "TARGET", "MS", "TRACE", "DETAIL"),
        [
            (
                moment(row["at"]),
                row["event"],
                row["outcome"],
                row["subject"] + (f" for {row['on_behalf_of']}" if row["on_behalf_of"] else ""),
                row["server"],
                row["target"],
                f"{row['milliseconds']:.1f}",
                row["trace"],
                row["detail"],
            )
            for row in found["records"]
        ],
        "No such records.",
    )
    if found["next"]:
        click.echo(f"There are more: --cursor {found['next']}", err=True)


@audit.command(example="entrepot audit verify")
@json_option
def verify(as_json: bool) -> None:
    """Check the hash chain of the whole audit; exit code 1 when a record was changed or is missing.

    Works without a running hub, on the files in ENTREPOT_HOME.
    """
    settings = read_settings()
    try:
        found = AdminClient(settings).get("/audit/verify", seconds=LONG_SECONDS)
    except NotRunning:
        report = chain.verify(settings.audit_dir)
        found: dict[str, Any] = {"ok": report.ok, "segments": report.segments, "records": report.records}
        if report.faults:
            found["fault"] = "; ".join(map(str, report.faults[:5]))
    if as_json:
        print_json(found)
    elif found["ok"]:
        click.echo(f"✓ {counted(found['records'], 'record')} in {counted(found['segments'], 'segment')}, none changed.")
    else:
        click.echo(f"✗ {found['fault']}")
        click.echo("  Next: keep a copy of the audit folder, then look who could write to it.", err=True)
    if not found["ok"]:
        click.get_current_context().exit(1)
