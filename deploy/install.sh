#!/usr/bin/env bash
# Makes the virtual environment VENV, or brings it up to date: usage install.sh VENV.
#
#   PYTHON       the Python to make it with (python3)
#   TORCH        torch's build: cpu, gpu, or auto, which is gpu where nvidia-smi works (auto)
#   TORCH_INDEX  a further package index to look for that build in
#
# All but torch comes from requirements.lock, checked against its hashes.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${1:?usage: install.sh VENV}
python=${PYTHON:-python3}
build=${TORCH:-auto}
version=$(sed -n 's/^ *"torch==\([^"]*\)",$/\1/p' pyproject.toml)

case $build in
    auto) if nvidia-smi >/dev/null 2>&1; then build=gpu; else build=cpu; fi ;;
    cpu | gpu) ;;
    *)
        echo "TORCH is '$build'; known are auto, cpu and gpu" >&2
        exit 2
        ;;
esac

if [[ ! -x $venv/bin/pip ]]; then
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "$("$python" --version 2>&1) is too old: wattbed needs Python 3.11 or newer; set PYTHON to one" >&2
        exit 2
    fi
    "$python" -m venv "$venv"
fi
pip() { "$venv/bin/pip" --disable-pip-version-check "$@"; }
install_torch() { pip install --quiet ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "$@"; }
pip install --quiet --upgrade pip

# `===`, because `==` would also take 2.13.0+cpu for 2.13.0.
wanted="torch===$version"
if [[ $build == cpu ]]; then
    if install_torch --dry-run --no-deps "torch===$version+cpu" >/dev/null 2>&1; then
        wanted="torch===$version+cpu"
    else
        echo "torch $version+cpu is in none of pip's indexes, so the default build is installed, on Linux the larger" \
            "CUDA one; set TORCH_INDEX to an index that has the CPU build to avoid that."
    fi
fi
echo "Installing $wanted ($build), then requirements.lock"
install_torch "$wanted"
pip install --quiet --no-deps --require-hashes -r requirements.lock
pip install --quiet --no-deps --editable .
