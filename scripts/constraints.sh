#!/usr/bin/env bash
# Write the pins of the versions between the ends, and those of the lowest bounds: constraints.sh
# Needs uv, and resolves for Python 3.11. Airflow gets what was newest some days after its release, as the constraint
# file of a release has it. Then this package and its tests are added, as the README says: what is there stays, unless
# it is too old for them.
set -euo pipefail

package_day=2026-11-20
files=(
    "lowest 2.11.0 2025-05-28"
    "3.0 3.0.6 2025-09-03"
    "3.1 3.1.8 2026-03-16"
    "3.2.0 3.2.0 2026-04-12"
    "3.2 3.2.2 2026-06-02"
)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
compile=(uv pip compile --quiet --python-version 3.11 --no-header --no-annotate)

for each in "${files[@]}"; do
    read -r name airflow day <<<"$each"
    found=$work/$name.txt bounds=()
    printf '%s\n' "apache-airflow==$airflow" apache-airflow-providers-{common-sql,openlineage,sqlite} |
        "${compile[@]}" --exclude-newer "$day" --output-file "$found" -
    if [[ $name == lowest ]]; then
        "${compile[@]}" --no-deps --resolution lowest-direct --extra emulator --output-file "$work/bounds" pyproject.toml
        bounds=(--constraint "$work/bounds")
    fi
    # Of the pins in its output file, uv keeps those that fit.
    echo "apache-airflow==$airflow" | "${compile[@]}" --exclude-newer "$package_day" --output-file "$found" \
        "${bounds[@]}" --extra test pyproject.toml -
    {
        echo "# Written by \`make constraints\`: Airflow $airflow as of $day, this package and its tests as of $package_day."
        cat "$found"
    } >"constraints/airflow-$name.txt"
    echo "constraints/airflow-$name.txt: $(grep -c == "$found") pins"
done
