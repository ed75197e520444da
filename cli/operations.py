"""What a step of a workload takes in multiplications, counted while one is done here. No device takes part."""

from pathlib import Path

from fleet.domain import Assignment
from fleet.errors import WattbedError
from fleet.experiment import Experiment
from optimizer.fitting import Job


def counted(experiment: Experiment, data: Path | None) -> tuple[Job | None, str]:
    """Values of the model and MACs of a step at full width, and what to say of them; None where it cannot be done.

    Counted by torch over convolutions and matrix products; a workload without any has no MACs.
    """
    from torch.utils.flop_counter import FlopCounterMode

    from workloads import load
    from workloads.protocol import Shard

    try:
        workload = load(experiment.workload.name, experiment.workload.options, data)
        params = workload.initial(experiment.seed)
        values = sum(p.size for p in params.values())
        assignment = Assignment("", 1, "", "", 0, 0, 32, 32, "fp32", 1.0, 1, experiment.seed, 0.0)
        with FlopCounterMode(display=False) as flops:
            workload.train(params, Shard(0, experiment.shards), assignment, lambda done, loss: None)
    except WattbedError as error:
        return None, f"steps could not be counted: {error}"
    macs = flops.get_total_flops() / 2
    return Job(values, macs or None), f"{values:,} values, {macs / 1e6:,.0f} million MACs a step, counted"
