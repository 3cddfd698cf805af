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


def installed(*names: str) -> dict[str, str]:
    """Return the version of each that is installed, and say how to install the others.

    :param names: those to ask for; all by default
    """
    found = {}
    for name in names or PACKAGES:
        try:
            found[name] = version(PACKAGES[name])
        except PackageNotFoundError:
            print(f"\n{PACKAGES[name]} is not installed and left out; to compare with it: {INSTALL}")
    return found
