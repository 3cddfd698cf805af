from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG
from airflow.serialization.helpers import serialize_template_field
from jinja2 import Environment, StrictUndefined

from siliconflow_provider.decorators.inference import BatchInferenceDecoratedOperator
from siliconflow_provider.exceptions import InvalidTemplateError
from siliconflow_provider.operators.batches import CreateBatchOperator
from siliconflow_provider.operators.inference import BatchInferenceOperator


def rendered(**arguments: Any) -> BatchInferenceOperator:
    operator = BatchInferenceOperator(task_id="ask", output_path="/out", requests=["a"], **arguments)
    operator.render_template_fields({"ds": "2026-01-02", "params": {"tokens": 64}})
    return operator


def test_templates_are_rendered_in_every_argument() -> None:
    operator = rendered(
        prompt="On {{ ds }}: {q}",
        system_prompt="It is {{ ds }}.",
        request_params={"max_tokens": "{{ params.tokens }}"},
        limit="{{ params.tokens }}",
    )
    assert (operator.prompt, operator.system_prompt) == ("On 2026-01-02: {q}", "It is 2026-01-02.")
    assert (operator.request_params, operator.limit) == ({"max_tokens": "64"}, "64")


def test_braces_stay_in_raw_blocks() -> None:
    assert rendered(prompt='{% raw %}{{"a": 1}}{% endraw %} {q}').prompt == '{{"a": 1}} {q}'


@pytest.mark.parametrize("name", ["prompt", "system_prompt", "model", "output_path"])
def test_an_invalid_template_names_its_argument(name: str) -> None:
    operator = BatchInferenceOperator(task_id="ask", **{"output_path": "/out", "requests": ["a"], name: '{{"a": <b>}}'})
    with pytest.raises(InvalidTemplateError, match=rf"^{name} is a Jinja template.*TemplateSyntaxError.*{{% raw %}}"):
        operator.render_template_fields({})


def test_a_column_in_double_braces_has_a_hint() -> None:
    operator = BatchInferenceOperator(
        task_id="ask", output_path="/out", requests=["a"], prompt="Say {{q}}", system_prompt="Be brief."
    )
    env = Environment(undefined=StrictUndefined)
    with pytest.raises(
        InvalidTemplateError, match=r"^prompt .*'q' is undefined.*stay; for a column of the row, write \{q\}$"
    ):
        operator.render_template_fields({}, env)


def test_a_batch_has_the_same_check() -> None:
    operator = CreateBatchOperator(task_id="create", input_file_id="{{ 1 ")
    with pytest.raises(InvalidTemplateError, match="input_file_id is a Jinja template"):
        operator.render_template_fields({})


@pytest.mark.parametrize("native", [False, True])
def test_plain_arguments_are_shown_as_given(native: bool) -> None:
    given = {
        "output_format": "csv",
        "bad_items": "skip",
        "deduplicate": True,
        "max_rounds": 3,
        "max_active_batches": None,
        "min_success_rate": 0.5,
    }
    with DAG("shown", schedule=None, render_template_as_native_obj=native):
        operator = BatchInferenceOperator(task_id="ask", output_path="/out", requests=["{{ no }}"], **given)
    operator.render_template_fields({})
    shown = {name: serialize_template_field(getattr(operator, name), name) for name in operator.template_fields}
    assert {name: shown[name] for name in given} == given
    assert shown["requests"] == "<list of 1>"


@pytest.mark.parametrize("operator", [BatchInferenceOperator, BatchInferenceDecoratedOperator])
def test_mappings_are_shown_as_json(operator: Any) -> None:
    renderers = operator.template_fields_renderers
    shown_as_json = {name for name, renderer in renderers.items() if renderer == "json"}
    assert shown_as_json == {"request_params", "prices", "metadata"}
    assert set(renderers) <= set(operator.template_fields)
