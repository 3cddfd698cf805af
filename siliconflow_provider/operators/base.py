"""Base class of the operators that submit batches and wait for them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from siliconflow_provider.exceptions import InvalidArgumentError, InvalidTemplateError
from siliconflow_provider.hooks.siliconflow import DEFAULT_CONN_ID
from siliconflow_provider.links import BatchesLink
from siliconflow_provider.operators.waiting import BatchWaitingMixin, check_poll_interval, check_timeout

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperatorLink, Context

    from siliconflow_provider.batches import Submission


# How Jinja names a variable that a template does not know.
_UNDEFINED = re.compile(r"'(\w+)' is undefined")


class BatchOperator(BatchWaitingMixin, BaseOperator):
    """Submit batches and wait for them.

    :param model: model of the requests
    :param completion_window: time in which the service completes a batch: `"24h"` to `"336h"`, or a `timedelta`
    :param metadata: up to 10 key-value pairs of your own, attached to each batch
    :param deferrable: True (the default) waits in the triggerer, False on the worker. A window is at least 24 hours
    :param poll_interval: seconds between polls, at least 1; by default 5% of the batch's age, from 10 s to 300 s
    :param timeout: seconds or `timedelta` from the creation of the first batch until waiting ends; by default waiting
        ends one hour after the completion window
    :param cancel_on_kill: cancel running batches if the task is killed while it waits. On the worker, clearing the
        task or restarting the worker is a kill too. The triggerer cancels only if a user has marked the task
    :param cancel_on_timeout: cancel running batches at the timeout; Airflow then does not retry the task
    :param submission_key: set another value to submit everything again for the same task instance
    :param siliconflow_conn_id: id of the Airflow connection
    """

    template_fields: Sequence[str] = (
        "model",
        "completion_window",
        "metadata",
        "submission_key",
        "siliconflow_conn_id",
    )
    operator_extra_links: Collection[BaseOperatorLink] = (BatchesLink(),)

    def __init__(
        self,
        *,
        model: str | None = None,
        completion_window: str | timedelta = "24h",
        metadata: Mapping[str, str] | None = None,
        deferrable: bool = True,
        poll_interval: float | None = None,
        timeout: float | timedelta | None = None,
        cancel_on_kill: bool = False,
        cancel_on_timeout: bool = False,
        submission_key: str | None = None,
        siliconflow_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_poll_interval(poll_interval)
        check_timeout(timeout)
        self.model = model
        self.completion_window = completion_window
        self.metadata = metadata
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.submission_key = submission_key
        self.siliconflow_conn_id = siliconflow_conn_id

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Render the templates.

        :raises InvalidTemplateError: if one is invalid; names the argument
        """
        from jinja2 import TemplateError

        try:
            super().render_template_fields(context, jinja_env)
            return
        except TemplateError as error:
            reason, undefined = f"{type(error).__name__}: {error}", _UNDEFINED.fullmatch(str(error))
        name = self._name_of_invalid_field(context, jinja_env)
        column = f"; for a column of the row, write {{{undefined[1]}}}" if undefined and name == "prompt" else ""
        raise InvalidTemplateError(
            f"{name} is a Jinja template, and cannot be rendered ({reason}): correct it, or write "
            f"{{% raw %}}...{{% endraw %}} around braces that stay{column}"
        )

    def _name_of_invalid_field(self, context: Context, jinja_env: Any) -> str:
        from jinja2 import TemplateError

        for name in self.template_fields:
            try:
                self.render_template(getattr(self, name), context, jinja_env)
            except TemplateError:
                return name
        return "one of its arguments"

    def submission(self, context: Context, **fields: Any) -> Submission:
        """Return the submission of this attempt of the task instance.

        :param fields: fields of the `Submission` that depend on the batch, such as its file and its round
        """
        from siliconflow_provider.batches import Submission, digest
        from siliconflow_provider.operators.identity import (
            attempt_fields,
            identity_keys,
            identity_label,
            run_parts,
        )

        if not isinstance(self.metadata, Mapping | None):
            raise InvalidArgumentError(f"metadata is {type(self.metadata).__name__}: give a dict of texts")
        deployment = self.hook.deployment
        return Submission(
            completion_window=self.completion_window,
            metadata=self.metadata or {},
            run_key=digest(*run_parts(context, deployment)),
            label=identity_label(context),
            **identity_keys(context, deployment, self.submission_key),
            **attempt_fields(context, int(self.retries or 0)),
            **fields,
        )
