"""The learned policy against the solvers' way, on drawn devices around four made-up ones.

Trains by proximal policy optimisation (the extra `learned`), then lets every policy act on the same drawn devices
for ten rounds each. Simulated throughout: no joule here was measured.
"""

import sys
import time
from dataclasses import asdict

import numpy as np

sys.path.append(sys.path.pop(0))  # this folder last: `optimizer.py` here has the name of the package

from provenance import Provenance, parser, publish, table

from optimizer.learned import compare, memory, train
from optimizer.learned.simulator import Simulator
from optimizer.policies.options import Menu

MENU = Menu(bits_up=(4, 8, 16), precisions=("fp32", "bf16"), widths=(0.5, 1.0), train_steps=(20,))
DEVICES = ((1.0, 5.0, 2e6), (2.0, 9.0, 1e6), (0.5, 3.0, 4e6), (1.0, 6.0, 8e6))
"""Speed, watts and bit/s of the uplink."""

PARAMETERS = 5e5


def simulator() -> Simulator:
    entries = memory.entries(MENU, 32)
    seconds = np.array(
        [
            [
                0.5
                + c.steps * 0.1 / speed * c.setting.width**1.6 * (0.7 if c.setting.precision == "bf16" else 1.0)
                + PARAMETERS * c.bits_up / uplink
                for c in entries
            ]
            for speed, _, uplink in DEVICES
        ]
    )
    return Simulator(seconds, seconds * np.array([[watts] for _, watts, _ in DEVICES]))


def main() -> None:
    options = parser(__doc__).parse_args()
    origin = Provenance.now(options.seed, ("numpy", "stable-baselines3", "gymnasium", "torch"))
    devices, steps, played = simulator(), 8_000 if options.quick else train.STEPS, 50 if options.quick else 400
    began = time.perf_counter(), time.process_time()
    trained = train.train(devices, memory.entries(MENU, 32), options.seed, steps)
    wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
    found = compare.compared(trained, devices, devices=played, rounds=10, seed=options.seed + 1)
    rows = [(name, f"{o.joules:.3f}", f"{o.late:.1%}") for name, o in found.items()]
    page = f"""# The learned policy

{played} drawn devices, 10 rounds each, a menu of {len(memory.entries(MENU, 32))} entries. Joules are relative to
the best entry in time, which only `best` knows beforehand; simulated.

{table(("policy", "joules", "late"), rows)}

Trained on {trained.origin["steps"]:,} simulated assignments in {wall:.3g} s ({cpu:.3g} s of one processor).
"""
    numbers = {"compared": {n: asdict(o) for n, o in found.items()}, "wall_s": wall, "cpu_s": cpu}
    publish(options, "learned", page, numbers, origin)


if __name__ == "__main__":
    main()
