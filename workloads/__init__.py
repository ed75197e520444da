"""What is trained and evaluated. A workload is found by name among the entry points `wattbed.workloads`."""

from workloads.protocol import Outcome, Shard, Workload, load

__all__ = ["Outcome", "Shard", "Workload", "load"]
