"""What importing operators costs a DAG file, over Airflow itself: milliseconds and MiB, best of five processes."""

from __future__ import annotations

import subprocess
import sys

from peers import installed

MODULES = {
    "siliconflow": (
        "siliconflow_provider.operators.inference",
        "siliconflow_provider.decorators.inference",
        "siliconflow_provider.operators.batches",
        "siliconflow_provider.operators.files",
        "siliconflow_provider.sensors.batches",
    ),
    "openai": ("airflow.providers.openai.operators.openai",),
    "anthropic": ("airflow.providers.anthropic.operators.batch",),
    "common-ai": ("airflow.providers.common.ai.operators.llm_batch",),
}
PROGRAM = """
import resource, sys, time
import airflow.providers.common.compat.sdk
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.perf_counter()
__import__(sys.argv[1])
print((time.perf_counter() - started) * 1000, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def measure(module: str) -> tuple[float, float]:
    """Return milliseconds and MiB that importing the module adds."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, module], capture_output=True, text=True, check=True)
    milliseconds, mebibytes = map(float, done.stdout.split()[-2:])
    return milliseconds, mebibytes


def main() -> None:
    """Print the table."""
    versions = installed()
    print(f"\n{'module':<52}{'ms':>8}{'MiB':>8}")
    for provider, modules in MODULES.items():
        for module in modules if provider in versions or provider == "siliconflow" else ():
            milliseconds, mebibytes = min(measure(module) for _ in range(5))
            name = f"{module} {versions.get(provider, '')}"
            print(f"{name:<52}{milliseconds:>8.1f}{mebibytes:>8.1f}", flush=True)


if __name__ == "__main__":
    main()
