"""ResultStore as objects: each must fit a Pydantic model, and one that does not is asked for again.

It runs as it stands against the emulator (`make ui`) and, with a SiliconFlow API key in the connection
`siliconflow_default`, against the service. Results go to `SILICONFLOW_EXAMPLE_OUTPUT`, a directory or an object
storage URL.
"""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import dag, task
from pydantic import BaseModel, Field

from siliconflow_provider.operators.inference import BatchInferenceOperator
from siliconflow_provider.results import read_results

OUTPUT = os.environ.get("SILICONFLOW_EXAMPLE_OUTPUT", f"file://{Path.home()}/siliconflow-examples")
MESSAGES = [
    {"order": "A-17", "text": "We take the oak table and pay 249.50 + 30.00 for it with delivery."},
    {"order": "A-18", "text": "Please send the usual: 12 * 4.25 as agreed on the phone."},
    {"order": "A-19", "text": "The lamp, but with your discount: 80 - 15.20 it was, I think."},
]


class Amount(BaseModel):
    """What a customer is going to pay."""

    answer: Decimal = Field(ge=0, description="the amount in euros, worked out")


@dag(
    dag_id="example_siliconflow_structured_extraction",
    schedule=None,
    start_date=pendulum.datetime(2025, 1, 1, tz="UTC"),
    default_args={"retries": 3},
    tags=["siliconflow", "example"],
)
def structured_extraction():
    """Take the amounts out of customers' messages."""
    extract = BatchInferenceOperator(
        task_id="extract",
        requests=MESSAGES,
        prompt="Which amount does this order come to? {text}",
        id_column="order",
        model="deepseek-ai/DeepSeek-V3",
        output_type=Amount,
        output_path=OUTPUT + "/structured_extraction/{{ run_id }}",
    )

    @task
    def report(summary: dict[str, Any]) -> str:
        """Add the amounts up."""
        amounts = {row.custom_id: Amount.model_validate(row.output).answer for row in read_results(summary)}
        print("\n".join(f"{order:<8}{amount:>10.2f}" for order, amount in amounts.items()))
        return str(sum(amounts.values()))

    report(extract.output)


structured_extraction()
