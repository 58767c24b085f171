"""Read-only access to SQLite files: which there are, and queries behind mode=ro, query_only, an authorizer and limits.

A connection lives for one call. Every row, byte and second has a bound; a query over its time is interrupted.
"""

from __future__ import annotations

import base64
import json
import math
import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from servers.databases.readonly import NotReadOnly, check
from servers.databases.sample import create_sample
from servers.kit import Environment, Fault, SettingsFault

_SUFFIXES = (".db", ".sqlite", ".sqlite3")
_MAGIC = b"SQLite format 3\0"
_ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})
_PRAGMAS = frozenset(
    {"table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list",
     "user_version", "application_id", "schema_version", "journal_mode", "encoding", "page_size", "page_count",
     "freelist_count", "foreign_keys", "collation_list", "function_list", "module_list", "compile_options"}
)  # fmt: skip
_FUNCTIONS_REFUSED = frozenset({"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"})


@dataclass(frozen=True)
class Limits:
    """Bounds of one query."""

    rows: int = 200
    bytes: int = 512 * 1024
    seconds: float = 5.0


@dataclass(frozen=True)
class Rows:
    """What a query gave. `cut` says which bound ended it: `rows`, `bytes`, or nothing."""

    columns: list[str]
    rows: list[list[Any]]
    cut: str
    milliseconds: float


class Databases:
    """The databases the environment names; a folder is looked at anew for each call."""

    def __init__(self, folder: Path | None, named: dict[str, Path], sample: Path | None) -> None:
        self._folder = folder
        self._named = named
        self._sample = sample

    @classmethod
    def from_environment(cls, environment: Environment) -> Databases:
        """Read ENTREPOT_DATABASES; without it the bundled sample is the only one. Raises SettingsFault."""
        value = environment.text("ENTREPOT_DATABASES")
        if not value:
            return cls(None, {}, environment.state_dir("databases") / "sample.sqlite")
        if not value.startswith("{"):
            return cls(Path(value).expanduser().absolute(), {}, None)
        try:
            parsed: object = json.loads(value)
        except ValueError as error:
            raise SettingsFault("ENTREPOT_DATABASES is neither a folder nor a JSON object of name and path.") from error
        rows = cast("dict[str, object]", parsed)
        return cls(None, {str(name): Path(str(path)).expanduser().absolute() for name, path in rows.items()}, None)

    def paths(self) -> dict[str, Path]:
        """Name and file of every database, by name; creates the sample at its first use."""
        if self._sample is not None:
            if not self._sample.exists():
                create_sample(self._sample)
            return {"sample": self._sample}
        found = {name: path for name, path in self._named.items() if _is_database(path)}
        if self._folder is not None and self._folder.is_dir():
            files = (path for path in sorted(self._folder.iterdir()) if path.suffix.lower() in _SUFFIXES)
            # A link may lead out of the folder.
            found |= {path.stem: path for path in files if not path.is_symlink() and _is_database(path)}
        return dict(sorted(found.items())[:500])

    @contextmanager
    def open(self, name: str, seconds: float) -> Generator[sqlite3.Connection]:
        """A connection that can only read, for at most `seconds`. Raises Fault for an unknown name."""
        path = self.paths().get(name)
        if path is None:
            raise Fault(f"No database named {name[:80]!r}.", code="unknown-database", hint="Call list_databases.")
        address = f"file:{quote(str(path))}?mode=ro"
        try:
            connection = sqlite3.connect(address, uri=True, timeout=2, isolation_level=None)
        except sqlite3.Error as error:
            raise _failed(error) from error
        try:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 16 << 20)
            connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            connection.set_authorizer(_authorize)
            deadline = time.monotonic() + seconds
            connection.set_progress_handler(lambda: int(time.monotonic() > deadline), 1000)
            yield connection
        except sqlite3.Error as error:
            raise _failed(error) from error
        finally:
            connection.close()

    def query(self, name: str, sql: str, parameters: list[Any], limits: Limits) -> Rows:
        """Run one reading statement. Raises Fault."""
        _readable(sql)
        started = time.monotonic()
        with self.open(name, limits.seconds) as connection:
            cursor = connection.execute(sql, parameters)
            columns = [column[0] for column in cursor.description or ()]
            rows: list[list[Any]] = []
            size = 0
            cut = ""
            for row in cursor:
                if len(rows) == limits.rows:
                    cut = "rows"
                    break
                shown = [_shown(value) for value in row]
                size += len(json.dumps(shown, ensure_ascii=False, default=str))
                if size > limits.bytes:
                    cut = "bytes"
                    break
                rows.append(shown)
        return Rows(columns, rows, cut, round((time.monotonic() - started) * 1000, 2))

    def plan(self, name: str, sql: str, seconds: float) -> list[tuple[int, int, str]]:
        """SQLite's query plan: (node, parent, what it does). Raises Fault."""
        _readable(sql)
        with self.open(name, seconds) as connection:
            rows = connection.execute(f"EXPLAIN QUERY PLAN {sql}").fetchmany(500)
        return [(row[0], row[1], str(row[3])) for row in rows]


def _readable(sql: str) -> None:
    try:
        check(sql)
    except NotReadOnly as error:
        raise Fault(
            f"The statement was refused: {error}.",
            code="not-read-only",
            hint="Write one SELECT (or WITH, VALUES, EXPLAIN) statement in SQLite's dialect. This server never writes.",
        ) from error


def _authorize(action: int, first: str | None, second: str | None, _database: str | None, _inner: str | None) -> int:
    if action == sqlite3.SQLITE_FUNCTION:
        return sqlite3.SQLITE_DENY if (second or "").lower() in _FUNCTIONS_REFUSED else sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_PRAGMA:
        asks = second is None or (first or "").lower().endswith(("_info", "_xinfo", "_list"))
        return sqlite3.SQLITE_OK if (first or "").lower() in _PRAGMAS and asks else sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _failed(error: sqlite3.Error) -> Fault:
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
        return Fault(
            "The query took too long and was stopped.",
            code="timeout",
            hint="Narrow it with WHERE, use an index (see explain_query), or aggregate less.",
        )
    return Fault(
        f"SQLite says: {str(error)[:300]}.",
        code="query-failed",
        hint="Check table and column names with list_tables and describe_table.",
    )


def _shown(value: object) -> Any:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value[:4096]).decode(), "bytes": len(value)}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no infinity
    return value[:20_000] if isinstance(value, str) else value


def _is_database(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(16) == _MAGIC
    except OSError:
        return False
