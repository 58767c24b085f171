"""A small database for a first look: the staff, shifts and shipments of the made-up company Harbour Works.

Written once, atomically, with fixed content, so that examples in the documentation hold.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

_SCHEMA = """
CREATE TABLE departments (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, site TEXT NOT NULL);
CREATE TABLE employees (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, department_id INTEGER NOT NULL REFERENCES departments(id),
    started DATE NOT NULL, leave_days INTEGER NOT NULL, leave_taken INTEGER NOT NULL);
CREATE TABLE ships (id INTEGER PRIMARY KEY, name TEXT NOT NULL, flag TEXT NOT NULL, length_m REAL NOT NULL);
CREATE TABLE shipments (
    id INTEGER PRIMARY KEY, ship_id INTEGER NOT NULL REFERENCES ships(id), arrived DATE NOT NULL, cargo TEXT NOT NULL,
    tonnes REAL NOT NULL, handled_by INTEGER REFERENCES employees(id));
CREATE INDEX shipments_arrived ON shipments(arrived);
CREATE VIEW cargo_by_month AS
    SELECT substr(arrived, 1, 7) AS month, cargo, round(sum(tonnes), 1) AS tonnes FROM shipments GROUP BY month, cargo;
"""
_DEPARTMENTS = [
    (1, "Quay", "North pier"),
    (2, "Warehouse", "Shed 7"),
    (3, "Office", "Harbour house"),
    (4, "信息技术", "上海"),
]
_NAMES = ["Ada Holm", "Ben Okafor", "Chiara Rossi", "David Lund", "陈晓", "Elif Kaya", "Farid Amiri", "Grete Voss",
          "王磊", "Hanna Berg", "Ivan Petrov", "李娜"]  # fmt: skip
_SHIPS = [
    (1, "Aurora", "NO", 182.5),
    (2, "Blue Heron", "NL", 139.0),
    (3, "海星", "CN", 299.9),
    (4, "Petrel", "DK", 88.2),
]
_CARGO = ["containers", "grain", "timber", "machinery", "coffee"]


def create_sample(path: Path) -> None:
    """Write the sample database to `path`; a half-written one never appears under that name."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    draft.unlink(missing_ok=True)
    connection = sqlite3.connect(draft)
    try:
        with connection:
            connection.executescript(_SCHEMA)
            connection.executemany("INSERT INTO departments VALUES (?,?,?)", _DEPARTMENTS)
            connection.executemany(
                "INSERT INTO employees VALUES (?,?,?,?,?,?)", [_employee(n) for n in range(len(_NAMES))]
            )
            connection.executemany("INSERT INTO ships VALUES (?,?,?,?)", _SHIPS)
            connection.executemany("INSERT INTO shipments VALUES (?,?,?,?,?,?)", [_shipment(n) for n in range(120)])
    finally:
        connection.close()
    draft.replace(path)


def _employee(number: int) -> tuple[int, str, int, str, int, int]:
    started = f"{2012 + number}-{1 + number * 5 % 12:02}-01"
    return number + 1, _NAMES[number], 1 + number % 4, started, 25 + (3 if number < 6 else 0), number * 7 % 19


def _shipment(number: int) -> tuple[int, int, str, str, float, int]:
    arrived = f"2026-{1 + number // 12:02}-{1 + number * 7 % 28:02}"
    return number + 1, 1 + number % 4, arrived, _CARGO[number * 3 % 5], 40.0 + number * 37 % 611, 1 + number % 12
