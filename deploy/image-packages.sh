#!/bin/sh
# Installs the pinned packages of LIST in the folder FOLDER of an image: usage image-packages.sh LIST FOLDER.
set -eu

list=$1
folder=$2
python3 -m pip install --no-compile --no-deps --require-hashes --target "$folder" -r "$list"

# Nobody runs the packages' own tests in a container, or their commands.
find "$folder" -type d -name tests -prune -exec rm -rf {} +
rm -rf "$folder/bin"
# Of diffusers only the schedulers are imported, and nothing of its pipelines with them.
rm -rf "$folder/diffusers/pipelines" "$folder/diffusers/modular_pipelines" "$folder/Crypto/SelfTest"
# A processor needs none of the 120 MB of code for GPUs.
if [ -d "$folder/bitsandbytes" ] && python3 -c 'import sys, torch; sys.exit(bool(torch.version.cuda))'; then
    find "$folder/bitsandbytes" -name 'libbitsandbytes_*.so' ! -name 'libbitsandbytes_cpu.so' -delete
fi
# Byte code for all but the trees of diffusers that nobody imports here: schedulers are what is used.
python3 -m compileall -q -x 'diffusers/(models|loaders|quantizers|hooks)/' "$folder"
