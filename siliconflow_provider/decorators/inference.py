"""Decorator `@task.siliconflow_batch`: run the requests that a function returns or yields as batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import DecoratedOperator, context_merge, task_decorator_factory

from siliconflow_provider.operators.inference import BatchInferenceOperator
from siliconflow_provider.operators.requests import check_items

try:
    from airflow.sdk.bases.decorator import determine_kwargs
except ImportError:  # before Airflow 3.2
    from airflow.utils.operator_helpers import determine_kwargs  # type: ignore[attr-defined]

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class BatchInferenceDecoratedOperator(DecoratedOperator, BatchInferenceOperator):
    """Run the requests that a function returns or yields.

    The function is called only for a new job; an existing job is resumed without it. It can use Airflow's context. Its
    requests are not rendered as templates.
    """

    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *(name for name in BatchInferenceOperator.template_fields if name not in ("requests", "input_path")),
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **BatchInferenceOperator.template_fields_renderers,
    }
    custom_operator_name = "@task.siliconflow_batch"

    def __init__(
        self, *, python_callable: Callable[..., Any], op_args: Any = None, op_kwargs: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(
            python_callable=python_callable,
            op_args=op_args or (),
            op_kwargs=op_kwargs or {},
            # `source` calls the function instead.
            requests=(),
            **kwargs,
        )

    def execute(self, context: Context) -> Any:
        """Run the job. `DecoratedOperator.execute` is skipped: on Airflow 3.0 it uses a method that does not exist."""
        return BatchInferenceOperator.execute(self, context)

    def source(self, context: Context) -> Iterable[Any]:
        """Call the function and return its requests."""
        context_merge(context, self.op_kwargs)
        kwargs = determine_kwargs(self.python_callable, self.op_args, context)
        return check_items(self.python_callable(*self.op_args, **kwargs))


def siliconflow_batch_task(
    python_callable: Callable[..., Any] | None = None, multiple_outputs: bool | None = None, **kwargs: Any
) -> Any:
    """Turn a function that returns or yields requests into a task.

    :param kwargs: arguments of `BatchInferenceOperator` except `requests` and `input_path`
    """
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=BatchInferenceDecoratedOperator,
        **kwargs,
    )
