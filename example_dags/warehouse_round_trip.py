"""From a warehouse and back: a query becomes Parquet, its answers become Parquet, and a table takes them.

It runs as it stands against the emulator (`make ui`) and, with a SiliconFlow API key in the connection
`siliconflow_default`, against the service. The files are in `SILICONFLOW_EXAMPLE_OUTPUT`, a local directory here; an
`s3://` URL works too. SQLite stands for the warehouse: any database with a hook on the `common.sql` provider takes its
place. Transfer operators that unload your warehouse to Parquet, and load it from there, replace `unload` and `load`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import BaseHook, ObjectStoragePath, dag, task

from siliconflow_provider.operators.inference import BatchInferenceOperator
from siliconflow_provider.results import to_batches

QUESTIONS = Path(__file__).parent / "data" / "questions.jsonl"
OUTPUT = os.environ.get("SILICONFLOW_EXAMPLE_OUTPUT", f"file://{Path.home()}/siliconflow-examples")
DATABASE = Path.home() / "siliconflow-examples" / "warehouse.sqlite"
CONN_ID = "siliconflow_example_warehouse"
# Stands for a connection of your own.
os.environ.setdefault(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps({"conn_type": "sqlite", "host": str(DATABASE)}))


@dag(
    dag_id="example_siliconflow_warehouse_round_trip",
    schedule=None,
    start_date=pendulum.datetime(2025, 1, 1, tz="UTC"),
    default_args={"retries": 3},
    tags=["siliconflow", "example"],
)
def warehouse_round_trip():
    """Answer the questions of a table in another, by files of Parquet."""

    @task
    def fill_tables() -> None:
        """Make the tables, and put questions into the first."""
        hook = BaseHook.get_hook(CONN_ID)
        Path(hook.get_connection(CONN_ID).host).parent.mkdir(parents=True, exist_ok=True)
        hook.run(
            [
                "CREATE TABLE IF NOT EXISTS questions (id TEXT PRIMARY KEY, category TEXT, question TEXT)",
                "CREATE TABLE IF NOT EXISTS answers (id TEXT PRIMARY KEY, category TEXT, answer TEXT, tokens INTEGER)",
            ]
        )
        columns = ["id", "category", "question"]
        rows = ([each[name] for name in columns] for each in map(json.loads, QUESTIONS.open(encoding="utf-8")))
        hook.insert_rows("questions", rows, columns, replace=True)

    @task
    def unload(run_id: str | None = None) -> str:
        """Write the questions without an answer as Parquet."""
        import pyarrow
        from pyarrow import parquet

        path = ObjectStoragePath(f"{OUTPUT}/warehouse_round_trip/{run_id}/questions.parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        query = "SELECT id, category, question FROM questions WHERE id NOT IN (SELECT id FROM answers) ORDER BY id"
        schema = pyarrow.schema([(name, pyarrow.string()) for name in ("id", "category", "question")])
        rows = [dict(zip(schema.names, row, strict=True)) for row in BaseHook.get_hook(CONN_ID).get_records(query)]
        with path.open("wb") as file:
            parquet.write_table(pyarrow.Table.from_pylist(rows, schema), file)
        return str(path)

    @task
    def load(summary: dict[str, Any]) -> int:
        """Bring the answers into a table, some rows at a time; doing it twice changes nothing."""
        hook = BaseHook.get_hook(CONN_ID)
        for batch in to_batches(summary, status="succeeded"):
            # Columns of the input have their own names, beside those of the results.
            rows = batch.select(["id", "category", "content", "completion_tokens"]).to_pylist()
            columns = ["id", "category", "answer", "tokens"]
            hook.insert_rows("answers", (tuple(row.values()) for row in rows), columns, replace=True)
        (count,) = hook.get_first("SELECT count(*) FROM answers")
        print(f"{count} questions are answered")
        return count

    questions = unload()
    answers = BatchInferenceOperator(
        task_id="answers",
        input_path=questions,
        prompt="{question}",
        id_column="id",
        model="deepseek-ai/DeepSeek-V3",
        output_path=f"{OUTPUT}/warehouse_round_trip/{{{{ run_id }}}}/answers",
        output_format="parquet",
    )
    fill_tables() >> questions
    load(answers.output)


warehouse_round_trip()
