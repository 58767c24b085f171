"""Whether a statement only reads, decided from its parse tree. The first of three walls; pure, no database needed.

One statement; SELECT, WITH, VALUES, EXPLAIN of those, and each dialect's harmless ways to see a schema. Functions that
reach files, the network, other SQL or time itself are refused by name. What cannot be parsed is refused.
"""

from __future__ import annotations

import logging
import re

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

MAX_STATEMENT = 100_000
"""Characters of one statement."""

DIALECTS = {"sqlite": "sqlite", "postgres": "postgres", "mysql": "mysql", "mariadb": "mysql", "sqlserver": "tsql"}

_READS = (exp.Select, exp.SetOperation, exp.Values, exp.Subquery)
_WRITES = (
    exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Create, exp.Drop, exp.Alter, exp.TruncateTable, exp.Command,
    exp.Set,
    exp.Use, exp.Attach, exp.Detach, exp.Pragma, exp.Copy, exp.Transaction, exp.Commit, exp.Rollback, exp.Into,
    exp.Lock,
    exp.Grant, exp.LoadData, exp.Kill, exp.Analyze, exp.Execute,
)  # fmt: skip

_PRAGMAS_ASKING = frozenset(
    {"table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list"}
)
_PRAGMAS_PLAIN = _PRAGMAS_ASKING | {
    "user_version", "application_id", "schema_version", "journal_mode", "encoding", "page_size", "page_count",
    "freelist_count", "foreign_keys", "collation_list", "function_list", "module_list", "compile_options",
}  # fmt: skip

_SQLITE = """
load_extension readfile writefile edit fts3_tokenizer eval sqlite_dbpage sqlite_dbdata fsdir zipfile
randomblob zeroblob
"""
_MYSQL = """
load_file sleep benchmark get_lock release_lock release_all_locks is_free_lock is_used_lock sys_exec sys_eval
master_pos_wait source_pos_wait wait_for_executed_gtid_set xmltype updatexml extractvalue
"""
_TSQL = """
openquery openrowset opendatasource sp_executesql xp_cmdshell openxml fn_get_audit_file
"""
_POSTGRES = """
setval nextval set_config lastval query_to_xml query_to_xmlschema query_to_xml_and_xmlschema table_to_xml
cursor_to_xml database_to_xml schema_to_xml ts_stat crosstab xpath_table txid_current pg_current_xact_id
pg_terminate_backend pg_cancel_backend pg_reload_conf pg_rotate_logfile pg_notify pg_promote pg_switch_wal
pg_create_restore_point pg_export_snapshot pg_stat_reset pg_stat_statements_reset pg_stat_file pg_prewarm
pg_file_write pg_file_read pg_execute_server_program generate_bomb
"""
_FUNCTIONS = {
    "sqlite": frozenset(_SQLITE.split()),
    "mysql": frozenset(_MYSQL.split()),
    "tsql": frozenset(_TSQL.split()),
    "postgres": frozenset(_POSTGRES.split()),
}
_PREFIXES = {
    "postgres": re.compile(
        r"(?:lo_|dblink|pg_read_|pg_ls_|pg_sleep|pg_advisory|pg_try_advisory|pg_logical|pg_replication|pg_create|pg_drop|"
        r"pg_start|pg_stop|pg_backup|pg_wal_replay|pg_stat_reset|pg_import|pg_set|pg_file|pg_logdir)"
    ),
    "mysql": re.compile(r"(?:sys_|lib_mysqludf)"),
    "tsql": re.compile(r"(?:sp_|xp_)"),
    "sqlite": re.compile(r"(?:sqlite_dbpage|pragma_writable)"),
}

_EXPLAIN = re.compile(
    r"(?is)^\s*explain\b\s*(\((?P<options>[^()]*)\)|(?P<words>(?:(?:analyze|verbose|query\s+plan)\b\s*)*))\s*"
)
_SHOW = {
    "mysql": re.compile(r"(?is)^(?:show\s+[\w\s.`'%=<>-]+|(?:describe|desc)\s+[\w.`]+(?:\s+[\w`]+)?)$"),
    "postgres": re.compile(r"(?is)^show\s+[\w.]+$"),
}
_PRAGMA = re.compile(r"(?is)^pragma\s+(?:\w+\.)?(?P<name>\w+)\s*(?:\(\s*(?P<argument>[\w'\"`\[\]. -]*)\s*\))?$")


class NotReadOnly(Exception):
    """The statement is refused; the text says why, in words for the caller."""


def check(sql: str, dialect: str = "sqlite") -> None:
    """Raise NotReadOnly unless `sql` is one statement that only reads."""
    if len(sql) > MAX_STATEMENT:
        raise NotReadOnly(f"the statement is longer than {MAX_STATEMENT} characters")
    if "\0" in sql:
        raise NotReadOnly("the statement holds a NUL character")
    grammar = DIALECTS[dialect]
    bare = _without_comments(sql, grammar).strip().rstrip(";").strip()
    if not bare:
        raise NotReadOnly("there is no statement")
    if _schema_question(bare, grammar):
        return
    match = _EXPLAIN.match(bare)
    if match is None:
        _check_tree(bare, grammar, dialect, explained=False)
        return
    options = (match["options"] or match["words"] or "").lower()
    if match["options"] is not None and not re.fullmatch(r"[\w\s,]*", options):
        raise NotReadOnly("the EXPLAIN has unknown options")
    runs = re.search(r"\banalyze\b(?!\s*(?:false|off|0)\b)", options) is not None
    _check_tree(bare[match.end() :], grammar, dialect, explained=not runs)


def _schema_question(bare: str, grammar: str) -> bool:
    if grammar == "sqlite" and bare[:6].lower() == "pragma":
        match = _PRAGMA.match(bare)
        name = match["name"].lower() if match else ""
        allowed = _PRAGMAS_PLAIN if match and match["argument"] is None else _PRAGMAS_ASKING
        if name not in allowed:
            raise NotReadOnly("of PRAGMA only questions about the schema are allowed")
        return True
    pattern = _SHOW.get(grammar)
    return pattern is not None and pattern.match(bare) is not None


def _without_comments(sql: str, grammar: str) -> str:
    """`sql` without comments. Comments that a server would execute are refused, not removed."""
    out: list[str] = []
    at = 0
    while at < len(sql):
        two = sql[at : at + 2]
        if two == "--" or (sql[at] == "#" and grammar == "mysql"):
            end = sql.find("\n", at)
            at = len(sql) if end < 0 else end
        elif two == "/*":
            if re.match(r"/\*M?!", sql[at : at + 4]):
                raise NotReadOnly("executable comments are not allowed")
            at = _comment_end(sql, at, nested=grammar in ("postgres", "tsql"))
            out.append(" ")
        elif sql[at] in "'\"`":
            end = _quote_end(sql, at, escapes=grammar == "mysql")
            out.append(sql[at:end])
            at = end
        else:
            out.append(sql[at])
            at += 1
    return "".join(out)


def _comment_end(sql: str, at: int, *, nested: bool) -> int:
    depth = 0
    while at < len(sql):
        two = sql[at : at + 2]
        if two == "/*" and (nested or depth == 0):
            depth += 1
            at += 2
        elif two == "*/":
            depth -= 1
            at += 2
            if depth == 0:
                return at
        else:
            at += 1
    raise NotReadOnly("a comment does not end")


def _quote_end(sql: str, at: int, *, escapes: bool) -> int:
    quote = sql[at]
    at += 1
    while at < len(sql):
        if escapes and sql[at] == "\\":
            at += 2
        elif sql[at] == quote:
            if sql[at + 1 : at + 2] != quote:
                return at + 1
            at += 2
        else:
            at += 1
    raise NotReadOnly("a quotation does not end")


def _check_tree(sql: str, grammar: str, dialect: str, *, explained: bool) -> None:
    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)
    try:
        trees = [tree for tree in sqlglot.parse(sql, read=grammar) if tree is not None]
    except (SqlglotError, RecursionError, ValueError) as error:
        raise NotReadOnly("the statement cannot be understood as SQL") from error
    if len(trees) != 1:
        raise NotReadOnly("exactly one statement is allowed")
    tree = trees[0]
    if explained and isinstance(tree, exp.Insert | exp.Update | exp.Delete):
        return
    if not isinstance(tree, _READS):
        raise NotReadOnly("only SELECT, WITH, VALUES and EXPLAIN are allowed")
    for node in tree.walk():
        if isinstance(node, _WRITES):
            raise NotReadOnly(f"{type(node).__name__.upper()} is not allowed in a statement that only reads")
        if (name := _function(node)) and _refused(name, grammar):
            raise NotReadOnly(f"the function {name} is not allowed")


def _function(node: object) -> str:
    if isinstance(node, exp.Anonymous):
        return str(node.this).lower()
    return node.sql_name().lower() if isinstance(node, exp.Func) else ""


def _refused(name: str, grammar: str) -> bool:
    return name in _FUNCTIONS[grammar] or _PREFIXES[grammar].match(name) is not None
