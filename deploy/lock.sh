#!/usr/bin/env bash
# Pins everything wattbed and its developers need, but for torch, in requirements.lock: for all platforms, with hashes.
# Then what the images need, at the same versions, in deploy/*.txt.
# Keeps what is pinned already; `deploy/lock.sh --upgrade` takes the newest of all.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ -z "${UV_FIND_LINKS:-}" && -n "${PIP_FIND_LINKS:-}" ]]; then
    export UV_FIND_LINKS="${PIP_FIND_LINKS// /,}"
fi
pin() {
    .venv/bin/uv pip compile "$@" --quiet --config-file deploy/uv.toml \
        --universal --python-version 3.11 --no-emit-package torch --generate-hashes \
        --custom-compile-command "make lock"
}
pin pyproject.toml --all-extras --output-file requirements.lock "$@"

torch=$(mktemp)
trap 'rm -f "$torch"' EXIT
sed -n 's/^ *"\(torch==[^"]*\)",$/\1/p' pyproject.toml >"$torch"
same=(--constraint requirements.lock --constraint "$torch" --no-annotate)
pin deploy/both.in "${same[@]}" --output-file deploy/both.txt "$@"
pin deploy/wheel.in "${same[@]}" --output-file deploy/wheel.txt "$@"
for image in agent coordinator; do
    pin "deploy/$image.in" "${same[@]}" --no-deps --output-file "deploy/$image.txt" "$@"
done
