#!/usr/bin/env bash
# Fails, with the difference, unless fleet/v1 is what proto/ generates: usage proto-check.sh PYTHON.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${1:?usage: proto-check.sh PYTHON}
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT

"$python" -m grpc_tools.protoc -I proto --python_out="$made" --grpc_python_out="$made" --pyi_out="$made" \
    proto/fleet/v1/*.proto
if ! diff -ru --exclude=__init__.py --exclude=__pycache__ fleet/v1 "$made/fleet/v1"; then
    echo "fleet/v1 is not what proto/ generates: run make proto" >&2
    exit 1
fi
