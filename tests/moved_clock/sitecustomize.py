"""Move the clock of this process by MOVED_CLOCK_DAYS, and that of every Python process it starts.

Python imports this file when it starts, before anything else can read the clock, if its directory is in PYTHONPATH
(`make moved-clock`). Time passes at its usual pace. What C code reads stays real, such as the times of files.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from typing import Any


def move(seconds: float) -> None:
    """Move Python's clocks, and that of SQLite: Airflow's scheduler compares the one with the other."""
    sys.modules["pytest"] = None  # type: ignore[assignment]  # time-machine imports it, which takes half a second
    import time_machine

    del sys.modules["pytest"]
    time_machine.travel(time.time() + seconds, tick=True).start()
    open_database = sqlite3.connect

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = open_database(*arguments, **options)
        now = "%Y-%m-%d %H:%M:%S"
        connection.create_function("CURRENT_TIMESTAMP", 0, lambda: time.strftime(now, time.gmtime()))
        return connection

    sqlite3.connect = sqlite3.dbapi2.connect = connect


if days := float(os.environ.get("MOVED_CLOCK_DAYS", "0")):
    move(days * 86_400)
