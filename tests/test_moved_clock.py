"""`make moved-clock` moves the clock of everything that a test starts, or the two ends of a connection would differ."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

READ_BY_SQLITE = """import sqlite3
print(sqlite3.connect(":memory:").execute("SELECT strftime('%s', CURRENT_TIMESTAMP)").fetchone()[0])"""


def test_a_process_has_its_parents_clock(tmp_path: Path) -> None:
    for program in ("import time; print(time.time())", READ_BY_SQLITE):
        done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert abs(float(done.stdout) - time.time()) < 3600
