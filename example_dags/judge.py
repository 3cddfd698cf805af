"""Two models answer the same questions, a third one judges their answers, and the score of each model is printed.

It runs as it stands against the emulator (`make ui`) and, with a SiliconFlow API key in the connection
`siliconflow_default`, against the service. Results go to `SILICONFLOW_EXAMPLE_OUTPUT`, a directory or an object
storage URL.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import dag, task
from pydantic import BaseModel, Field

from siliconflow_provider.operators.inference import BatchInferenceOperator
from siliconflow_provider.results import read_results

QUESTIONS = Path(__file__).parent / "data" / "questions.jsonl"
OUTPUT = os.environ.get("SILICONFLOW_EXAMPLE_OUTPUT", f"file://{Path.home()}/siliconflow-examples")
MODELS = ["deepseek-ai/DeepSeek-V3", "moonshotai/Kimi-K2-Instruct-0905"]
JUDGE = "deepseek-ai/DeepSeek-V3.1-Terminus"
PROMPT = """Question: {question}
Reference answer: {reference}
Answer to judge: {answer}

How good is the answer? Compare it with the reference answer: wording does not matter."""


class Verdict(BaseModel):
    """What the judge says about one answer."""

    reason: str = Field(description="one sentence; think before you score")
    score: int = Field(ge=1, le=5, description="1: wrong, 5: right and complete")


@dag(
    dag_id="example_siliconflow_judge",
    schedule=None,
    start_date=pendulum.datetime(2025, 1, 1, tz="UTC"),
    default_args={"retries": 3},
    tags=["siliconflow", "example"],
)
def judge():
    """Ask each model, let the judge score all answers in one job, and compare the models."""
    answers = BatchInferenceOperator.partial(
        task_id="answers",
        input_path=str(QUESTIONS),
        limit=20,  # None for all questions
        prompt="{question}",
        id_column="id",
        request_params={"max_tokens": 64, "temperature": 0},
        output_path=OUTPUT + "/judge/{{ run_id }}/answers/{{ ti.map_index }}",
    ).expand(model=MODELS)

    @task.siliconflow_batch(
        prompt=PROMPT,
        id_column="id",
        model=JUDGE,
        request_params={"max_tokens": 256, "temperature": 0},
        output_type=Verdict,
        output_path=OUTPUT + "/judge/{{ run_id }}/verdicts",
    )
    def verdicts(summaries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield one row for each answer of each model. The judge does not see which model it was."""
        for model, summary in zip(MODELS, summaries, strict=True):
            for row in read_results(summary, status="succeeded"):
                yield {
                    "id": f"{model}/{row.custom_id}",
                    "model": model,
                    "question": row.input["question"],
                    "reference": row.input["answer"],
                    "answer": row.content or "",
                }

    @task
    def compare(summary: dict[str, Any]) -> dict[str, float]:
        """Print the mean score of each model, best first, and the judge's reason for its worst answer."""
        rows = defaultdict(list)
        for row in read_results(summary, status="succeeded"):
            rows[row.input["model"]].append(row)
        scores = {model: mean(row.output["score"] for row in judged) for model, judged in rows.items()}
        for model in sorted(scores, key=scores.get, reverse=True):
            worst = min(rows[model], key=lambda row: row.output["score"])
            print(f"{model:<40}{scores[model]:>6.2f} of 5 in {len(rows[model])} answers")
            print(f"    {worst.output['score']}: {worst.input['question']} {worst.output['reason']}")
        return scores

    compare(verdicts(answers.output))


judge()
