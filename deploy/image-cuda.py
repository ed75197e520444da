"""Fails an image's build whose torch cannot do what was expected of it: usage image-cuda.py yes|built|no."""

import sys

import torch

expected = sys.argv[1]
has = "yes" if torch.cuda.is_available() else "built" if torch.version.cuda else "no"
print(f"torch {torch.__version__}, CUDA {torch.version.cuda}, GPU found: {torch.cuda.is_available()}")
if expected not in ("yes", "built", "no"):
    sys.exit(f"EXPECT_CUDA is {expected!r}; known are yes, built and no")
if (expected, has) in {("yes", "built"), ("yes", "no"), ("built", "no")}:
    sys.exit(
        f"EXPECT_CUDA is {expected!r}, but torch {torch.__version__} "
        + (
            "finds no GPU during the build; BuildKit shows a build none: use built"
            if has == "built"
            else "is not made for CUDA"
        )
    )
