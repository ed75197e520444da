"""What has to be finished before the edge of a window is read."""

import sys


def wait_for_gpu() -> None:
    """Waits for what this process has queued on its GPU, where it uses one.

    CUDA kernels run behind the program's back: without this the joules of a training would fall into the
    phase after it. Imports nothing and starts no CUDA context.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
