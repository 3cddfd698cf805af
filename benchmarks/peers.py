"""The other providers that the benchmarks compare with."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

PACKAGES = {
    "openai": "apache-airflow-providers-openai",
    "anthropic": "apache-airflow-providers-anthropic",
    "common-ai": "apache-airflow-providers-common-ai",
}
INSTALL = (
    "pip install apache-airflow-providers-openai==2.2.0 apache-airflow-providers-anthropic==1.2.0 "
    "'apache-airflow-providers-common-ai[openai]==1.0.0'"
)


def installed() -> dict[str, str]:
    """Return the version of each that is installed, and say how to install the others."""
    found = {}
    for name, package in PACKAGES.items():
        try:
            found[name] = version(package)
        except PackageNotFoundError:
            print(f"{package} is not installed and left out; to compare with it: {INSTALL}\n")
    return found
