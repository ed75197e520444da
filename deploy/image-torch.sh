#!/bin/sh
# Puts torch into the folder FOLDER of an image: usage image-torch.sh FOLDER, in an image's build.
#
#   TORCH          cpu, gpu, or keep: the base image's own torch
#   TORCH_VERSION  the version to install
#   TORCH_INDEX    a further package index to look for that build in
#   EXPECT_CUDA    yes or no: whether torch must find a GPU during the build
set -eu

folder=$1
mkdir -p "$folder"
install_torch() { python3 -m pip install --target "$folder" ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "$@"; }

case $TORCH in
    keep) ;;
    gpu) install_torch "torch===$TORCH_VERSION" ;;
    cpu)
        # What torch needs besides is pinned in both.txt.
        if ! install_torch --no-deps "torch===$TORCH_VERSION+cpu"; then
            echo "torch $TORCH_VERSION+cpu is in none of pip's indexes, so the default build is installed, on x86 the" \
                "larger CUDA one; set TORCH_INDEX to an index that has the CPU build to avoid that." >&2
            install_torch "torch===$TORCH_VERSION"
        fi
        ;;
    *)
        echo "TORCH is '$TORCH'; known are cpu, gpu and keep" >&2
        exit 2
        ;;
esac

# Headers, static libraries and torch's own tests are for those who build torch.
rm -rf "$folder/torch/include" "$folder/torch/share/cmake" "$folder/torch/test" "$folder/bin"
find "$folder" -name '*.a' -delete
if [ -d "$folder/torch/bin" ]; then
    find "$folder/torch/bin" -type f ! -name torch_shm_manager -delete
fi
