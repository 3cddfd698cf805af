"""SiliconFlow batch inference for Apache Airflow."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

CONNECTION_FIELDS: dict[str, Any] = {
    "timeout": {
        "label": "Timeout (seconds)",
        "description": "A request times out after this many seconds without data, or after three times as many in "
        "total; 60 by default.",
        "schema": {"type": ["string", "null"]},
    },
    "max_retries": {
        "label": "Retries of a request",
        "description": "Maximum number of retries of a failed request, if a retry is safe; 5 by default.",
        "schema": {"type": ["string", "null"]},
    },
    "deployment": {
        "label": "Deployment",
        "description": "Name of this Airflow, such as production. Each Airflow that uses the account needs its own "
        "name. Required to cancel all batches of a DAG run.",
        "schema": {"type": ["string", "null"]},
    },
    "storage_hosts": {
        "label": "Hosts of results",
        "description": "The only hosts, besides the API's, that results may be downloaded from, separated by commas, "
        "such as *.example.com; by default any public host.",
        "schema": {"type": ["string", "null"]},
    },
    "prices": {
        "label": "Prices",
        "description": "Batch prices of models per million tokens, for estimates and costs: JSON, or the path of a "
        "JSON file; none by default.",
        "schema": {"type": ["string", "null"]},
    },
}
CONNECTION_FORM: dict[str, Any] = {
    "hidden-fields": ["login", "schema", "port", "extra"],
    "relabeling": {"password": "API key", "host": "Base URL"},
    "placeholders": {
        "password": "sk-...",
        "host": "https://api.siliconflow.com/v1",
        "timeout": "60",
        "max_retries": "5",
        "deployment": "production",
        "storage_hosts": "*.example.com",
        "prices": '{"currency": "CNY", "models": {"deepseek-ai/DeepSeek-V3": {"input": 1, "output": 4}}}',
    },
}


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description for Airflow. It is the entry point `apache_airflow_provider`."""
    return {
        "package-name": "airflow-provider-siliconflow",
        "name": "SiliconFlow",
        "description": "Batch inference on `SiliconFlow <https://www.siliconflow.com/>`__.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": "SiliconFlow",
                "external-doc-url": "https://docs.siliconflow.com/",
                "tags": ["ai"],
            }
        ],
        "hooks": [
            {
                "integration-name": "SiliconFlow",
                "python-modules": ["siliconflow_provider.hooks.siliconflow"],
            }
        ],
        "operators": [
            {
                "integration-name": "SiliconFlow",
                "python-modules": [
                    "siliconflow_provider.operators.batches",
                    "siliconflow_provider.operators.files",
                    "siliconflow_provider.operators.inference",
                ],
            }
        ],
        "sensors": [
            {
                "integration-name": "SiliconFlow",
                "python-modules": ["siliconflow_provider.sensors.batches"],
            }
        ],
        "triggers": [
            {
                "integration-name": "SiliconFlow",
                "python-modules": ["siliconflow_provider.triggers.batches", "siliconflow_provider.triggers.events"],
            }
        ],
        "connection-types": [
            {
                "connection-type": "siliconflow",
                "hook-class-name": "siliconflow_provider.hooks.siliconflow.SiliconFlowHook",
                "hook-name": "SiliconFlow",
                "conn-fields": CONNECTION_FIELDS,
                "ui-field-behaviour": CONNECTION_FORM,
            }
        ],
        "task-decorators": [
            {
                "class-name": "siliconflow_provider.decorators.inference.siliconflow_batch_task",
                "name": "siliconflow_batch",
            }
        ],
        "extra-links": ["siliconflow_provider.links.BatchesLink", "siliconflow_provider.links.ReportLink"],
        "cli": ["siliconflow_provider.cli.airflow_commands.airflow_commands"],
    }
