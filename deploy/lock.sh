#!/usr/bin/env bash
# Pins everything wattbed and its developers need, but for torch, in requirements.lock: for all platforms, with hashes.
# Keeps what is pinned already; `deploy/lock.sh --upgrade` takes the newest of all.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ -z "${UV_FIND_LINKS:-}" && -n "${PIP_FIND_LINKS:-}" ]]; then
    export UV_FIND_LINKS="${PIP_FIND_LINKS// /,}"
fi
.venv/bin/uv pip compile pyproject.toml --quiet --config-file deploy/uv.toml \
    --all-extras --universal --python-version 3.11 --no-emit-package torch --generate-hashes \
    --custom-compile-command "make lock" --output-file requirements.lock "$@"
