"""The server: FedAvg, with the time at which each round starts and ends written to `result-file`.

A round starts when its messages are configured and ends when its replies are averaged. No evaluation.
"""

import json
import resource
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


class TimedFedAvg(FedAvg):
    """FedAvg that remembers when its rounds began and ended, in Unix seconds."""

    def __init__(self, nodes: int) -> None:
        super().__init__(
            fraction_evaluate=0.0, min_train_nodes=nodes, min_evaluate_nodes=0, min_available_nodes=nodes
        )
        self.opened_at_s: list[float] = []
        self.closed_at_s: list[float] = []
        self.replies: list[int] = []

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        while len(list(grid.get_node_ids())) < self.min_available_nodes:
            time.sleep(0.1)
        self.opened_at_s.append(time.time())
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        kept = list(replies)
        averaged = super().aggregate_train(server_round, kept)
        self.closed_at_s.append(time.time())
        self.replies.append(sum(not reply.has_error() for reply in kept))
        return averaged


@app.main()
def main(grid: Grid, context: Context) -> None:
    config = context.run_config
    values = int(config["model-bytes"]) // 4 // int(config["tensors"])
    rng = np.random.default_rng(int(config["seed"]))
    arrays = [rng.standard_normal(values, dtype=np.float32) for _ in range(int(config["tensors"]))]
    strategy = TimedFedAvg(int(config["nodes"]))
    strategy.start(grid, ArrayRecord(arrays), num_rounds=int(config["num-server-rounds"]))
    result = {
        "opened_at_s": strategy.opened_at_s,
        "closed_at_s": strategy.closed_at_s,
        "replies": strategy.replies,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    target = Path(str(config["result-file"]))
    partial = target.with_suffix(".partial")
    partial.write_text(json.dumps(result))
    partial.rename(target)
