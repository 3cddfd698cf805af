"""SiliconFlow batch inference for Apache Airflow."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


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
                ],
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
            }
        ],
    }
