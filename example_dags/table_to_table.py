"""From a table to a table: a cursor streams rows into requests, and the answers are upserted beside them.

It runs as it stands against the emulator (`make ui`) and, with a SiliconFlow API key in the connection
`siliconflow_default`, against the service. The SQLite file is in `SILICONFLOW_EXAMPLE_OUTPUT`, a local directory here.
Any database with a hook on the `common.sql` provider takes its place.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import BaseHook, dag, task

from siliconflow_provider.results import read_results

QUESTIONS = Path(__file__).parent / "data" / "questions.jsonl"
OUTPUT = os.environ.get("SILICONFLOW_EXAMPLE_OUTPUT", f"file://{Path.home()}/siliconflow-examples")
DATABASE = Path(OUTPUT.removeprefix("file://")) / "table_to_table" / "questions.sqlite"
CONN_ID = "siliconflow_example_database"
# Stands for a connection of your own.
os.environ.setdefault(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps({"conn_type": "sqlite", "host": str(DATABASE)}))


@dag(
    dag_id="example_siliconflow_table_to_table",
    schedule=None,
    start_date=pendulum.datetime(2025, 1, 1, tz="UTC"),
    default_args={"retries": 3},
    tags=["siliconflow", "example"],
)
def table_to_table():
    """Answer the questions of one table in another."""

    @task
    def fill_tables() -> None:
        """Make the tables, and put questions into the first."""
        DATABASE.parent.mkdir(parents=True, exist_ok=True)
        hook = BaseHook.get_hook(CONN_ID)
        hook.run(
            [
                "CREATE TABLE IF NOT EXISTS questions (id TEXT PRIMARY KEY, category TEXT, question TEXT)",
                "CREATE TABLE IF NOT EXISTS answers (id TEXT PRIMARY KEY, answer TEXT, tokens INTEGER)",
            ]
        )
        columns = ["id", "category", "question"]
        rows = ([each[name] for name in columns] for each in map(json.loads, QUESTIONS.open(encoding="utf-8")))
        hook.insert_rows("questions", rows, columns, replace=True)

    @task.siliconflow_batch(
        prompt="{question}",
        id_column="id",
        model="deepseek-ai/DeepSeek-V3",
        output_path=f"file://{DATABASE.parent}/{{{{ run_id }}}}",
    )
    def answer() -> Iterator[dict[str, Any]]:
        """Yield the rows as the cursor gives them, however many there are."""
        with closing(BaseHook.get_hook(CONN_ID).get_conn()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute("SELECT id, question FROM questions WHERE id NOT IN (SELECT id FROM answers) ORDER BY id")
            for id_, question in cursor:
                yield {"id": id_, "question": question}

    @task
    def write_back(summary: dict[str, Any]) -> int:
        """Bring the answers to their rows; doing it twice changes nothing."""
        rows = (
            (row.custom_id, row.content, row.completion_tokens) for row in read_results(summary, status="succeeded")
        )
        hook = BaseHook.get_hook(CONN_ID)
        hook.insert_rows("answers", rows, ["id", "answer", "tokens"], replace=True)
        (count,) = hook.get_first("SELECT count(*) FROM answers")
        print(f"{count} questions are answered")
        return count

    asked = answer()
    fill_tables() >> asked
    write_back(asked)


table_to_table()
