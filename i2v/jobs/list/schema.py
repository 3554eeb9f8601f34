"""The list's tables, and the steps from each version of them to the next."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any

from i2v.jobs.job.states import STATES
from i2v.jobs.job.stored import StoredJob
from i2v.messages import Message
from i2v.models.entry import ModelEntry
from i2v.plan import Plan
from i2v.request import GenerationRequest

APPLICATION_ID = 0x49325651  # "I2VQ" in the file's header: this list and no other program's database

# Step n makes version n of version n - 1. A step that has been released is never edited: add another.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE jobs (
            id TEXT PRIMARY KEY,
            folder TEXT NOT NULL,
            state TEXT NOT NULL,
            owner TEXT NOT NULL,
            priority INTEGER NOT NULL,
            place INTEGER NOT NULL,
            submitted REAL NOT NULL,
            started REAL,
            ended REAL,
            attempts INTEGER NOT NULL,
            error TEXT,
            request TEXT NOT NULL,
            plan TEXT NOT NULL,
            entry TEXT,
            planned TEXT,
            card TEXT NOT NULL,
            seconds_predicted REAL,
            parent TEXT,
            task TEXT NOT NULL,
            deleted REAL
        )""",
        "CREATE INDEX jobs_by_state ON jobs (state)",
        "CREATE INDEX jobs_by_time ON jobs (submitted)",
        # `turn` numbers the runs that were started; each owner's last one.
        "CREATE TABLE served (owner TEXT PRIMARY KEY, turn INTEGER NOT NULL)",
        "CREATE TABLE switches (name TEXT PRIMARY KEY, is_on INTEGER NOT NULL)",
    ),
)

COLUMNS = tuple(field.name for field in fields(StoredJob))
_OBJECTS = ("request", "plan", "entry", "error")
_JSON = (*_OBJECTS, "planned")
_ROWS_KEPT = 1024  # a few KiB each


def migrate(db: sqlite3.Connection, version: int) -> None:
    """Bring the tables from `version` to today's, within the caller's transaction."""
    for step in MIGRATIONS[version:]:
        for statement in step:
            db.execute(statement)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def row_of(job: StoredJob) -> dict[str, Any]:
    """The job as values for the columns."""
    row = {name: getattr(job, name) for name in COLUMNS}
    return row | columns_of({name: row[name] for name in _JSON})


def columns_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Some fields of a job as values for their columns. Raises ValueError for a number that is not finite."""
    plain = {n: v.to_json() if n in _OBJECTS and v is not None else v for n, v in values.items()}
    return {n: json.dumps(v, allow_nan=False) if n in _JSON and v is not None else v for n, v in plain.items()}


def job_of(row: Mapping[str, Any]) -> StoredJob:
    """The job in a row. Raises KeyError, IndexError, TypeError or ValueError for a row that is none of ours."""
    return _job_in(tuple(row[name] for name in COLUMNS))


@lru_cache(maxsize=_ROWS_KEPT)
def _job_in(row: tuple[Any, ...]) -> StoredJob:
    """Reading the JSON of a row is nearly all that it takes to read one, and pages ask for the same rows all the time.
    A row that says something else is another one here."""
    values = dict(zip(COLUMNS, row, strict=True))
    read = {name: json.loads(values[name]) for name in _JSON if values[name] is not None}
    if values["state"] not in STATES:
        raise ValueError(f"no such state: {values['state']}")
    return StoredJob(
        **values
        | read
        | {
            "request": GenerationRequest.from_json(read["request"]),
            "plan": Plan.from_json(read["plan"]),
            "entry": ModelEntry.from_json(read["entry"]) if "entry" in read else None,
            "error": Message.from_json(read["error"]) if "error" in read else None,
        }
    )
