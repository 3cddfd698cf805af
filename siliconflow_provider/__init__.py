"""SiliconFlow batch inference for Apache Airflow."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

CONNECTION_FIELDS: dict[str, Any] = {
    "timeout": {
        "label": "Timeout (seconds)",
        "description": "Seconds without a byte after which a request is given up, and a third of all that its answer "
        "may take; 60 by default.",
        "schema": {"type": ["string", "null"]},
    },
    "max_retries": {
        "label": "Retries of a request",
        "description": "How often a failed request is sent again where that is safe; 5 by default.",
        "schema": {"type": ["string", "null"]},
    },
    "deployment": {
        "label": "Deployment",
        "description": "Names this Airflow, such as production; another name in each Airflow that uses the account. "
        "Cancelling all batches of a DAG run needs it.",
        "schema": {"type": ["string", "null"]},
    },
    "storage_hosts": {
        "label": "Hosts of results",
        "description": "The only hosts beside the API's that results may come from, separated by commas, such as "
        "*.example.com; by default any that is not in a private network.",
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
    },
}


def get_provider_info() -> dict[str, Any]:
    """Describe the provider to Airflow, which finds this by the entry point `apache_airflow_provider`."""
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
                "python-modules": ["siliconflow_provider.triggers.batches"],
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
        "extra-links": ["siliconflow_provider.links.BatchesLink"],
    }
