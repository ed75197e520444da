"""The real binding against a library built from nvml_stub.c: struct layouts, return codes, names of functions."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

STUB = Path(__file__).with_name("nvml_stub.c")
COMPILER = shutil.which("cc") or shutil.which("gcc")

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler (apt-get install gcc libc6-dev)")

METER = """
import json, sys
from pathlib import Path
from edge_agent.energy import gpu
from edge_agent.energy.integrate import SensorTracker
from edge_agent.energy.nvml import open_nvml
from edge_agent.energy.unwrap import CounterTracker

state, ends = Path(sys.argv[1]), [float(end) for end in sys.argv[2:]]
now = 0.0
def at(seconds):
    global now
    now = seconds
    lines = [line for line in state.read_text().splitlines() if not line.startswith("now ")]
    state.write_text("\\n".join([*lines, f"now {seconds}"]) + "\\n")

nvml = open_nvml()
found, rejected = gpu.find(nvml, clock=lambda: round(now * 1e9))
trackers = [CounterTracker(f) if isinstance(f, gpu.GpuEnergy) else SensorTracker(f) for f in found]
steps = {t.info.id: [] for t in trackers}
for end in ends:
    at(end)
    for t in trackers:
        step = t.advance()
        steps[t.info.id].append(getattr(step, "joules", getattr(step, "reason", None)))
    if end == ends[-2]:
        state.write_text(state.read_text().replace(" -x", " l"))
print(json.dumps({
    "kinds": {t.info.id: [t.info.kind, t.info.component, t.info.scope, t.info.detail] for t in trackers},
    "steps": steps,
    "rejected": {r.id: r.reason for r in rejected},
}))
"""

CURVE = "curve 0 100\ncurve 10 300\ncurve 20 300\n"
NO = 3  # NotSupported


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nvml")
    command = [COMPILER, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", STUB]
    subprocess.run(command, check=True)
    return folder


def meter(library, tmp_path, *gpus, ends=(0, 10, 20)):
    """What the GPUs (lines of the stub's file) come to, read at the `ends` in seconds."""
    state = tmp_path / "state"
    state.write_text(CURVE + "".join(f"gpu {line}\n" for line in gpus) + "now 0\n")
    environment = os.environ | {"LD_LIBRARY_PATH": str(library), "FAKE_NVML": str(state)}
    command = [sys.executable, "-c", METER, str(state), *map(str, ends)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_energy_counter_follows_the_curve(library, tmp_path):
    seen = meter(library, tmp_path, "GPU-1 NVIDIA_H100 9 1.0 0 0 0 0 0 -")
    assert (seen["kinds"]["nvml:GPU-1"], seen["steps"]["nvml:GPU-1"]) == (
        ["nvml_energy", "gpu", "board", "NVIDIA H100, energy counter"],
        [None, pytest.approx(2000.0), pytest.approx(3000.0)],
    )


def test_energy_not_supported_leaves_power_which_integrates_to_the_same(library, tmp_path):
    ends = [tick / 2 for tick in range(41)]
    seen = meter(library, tmp_path, f"GPU-1 NVIDIA_T4 6 1.0 {NO} 0 0 0 0 -", ends=ends)
    assert (seen["kinds"]["nvml:GPU-1"][0], sum(seen["steps"]["nvml:GPU-1"][1:])) == (
        "nvml_power",
        pytest.approx(5000.0, rel=0.005),
    )


def test_each_field_value_has_its_own_return_code(library, tmp_path):
    seen = meter(
        library,
        tmp_path,
        f"GPU-1 A 9 1.0 {NO} {NO} 0 0 0 -",
        f"GPU-2 B 9 1.0 {NO} {NO} {NO} 0 0 -",
        f"GPU-3 C 9 1.0 {NO} 0 {NO} {NO} 0 -",
        f"GPU-4 D 9 1.0 {NO} {NO} {NO} {NO} 0 -",
        f"GPU-5 Orin_(nvgpu) 9 1.0 {NO} {NO} {NO} {NO} {NO} -",
    )
    assert (list(seen["kinds"].values()), seen["rejected"]) == (
        [
            ["nvml_power", "gpu", "board", "A, power now"],
            ["nvml_power", "gpu", "board", "B, mean power of 1 s"],
            ["nvml_power", "gpu", "board", "C, mean power of 1 s"],
            ["nvml_power", "board", "module", "D, power now of the module with its CPU"],
        ],
        {"nvml:GPU-5": "NVML lists Orin (nvgpu) and gives neither its energy nor its power"},
    )


def test_a_gpu_with_slices_is_counted_once_and_gpus_come_by_uuid(library, tmp_path):
    seen = meter(
        library,
        tmp_path,
        "GPU-z NVIDIA_A100 7 0.5 0 0 0 0 0 m",
        "MIG-1 NVIDIA_A100_MIG_1g 7 0.5 0 0 0 0 0 s",
        "MIG-2 NVIDIA_A100_MIG_1g 7 0.5 0 0 0 0 0 s",
        "GPU-a NVIDIA_A100 7 0.25 0 0 0 0 0 -",
    )
    assert {id: steps[1] for id, steps in seen["steps"].items()} == {
        "nvml:GPU-a": pytest.approx(500.0),
        "nvml:GPU-z": pytest.approx(1000.0),
    }


def test_a_gpu_that_falls_off_the_bus_fails_by_that_name(library, tmp_path):
    seen = meter(library, tmp_path, "GPU-1 NVIDIA_H100 9 1.0 0 0 0 0 0 -x")
    assert seen["steps"]["nvml:GPU-1"] == [None, pytest.approx(2000.0), "gpu_is_lost"]


def test_a_library_that_finds_no_gpu_is_a_reason_and_no_crash(library, tmp_path):
    code = "from edge_agent.energy.nvml import open_nvml; print(open_nvml().reason)"
    environment = os.environ | {"LD_LIBRARY_PATH": str(library), "FAKE_NVML": str(tmp_path / "none")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("NVML cannot be used: nvmlInit: Unknown Error")


def test_a_host_without_the_library_says_what_to_install():
    code = "from edge_agent.energy.nvml import open_nvml; r = open_nvml(); print(r.reason, r.fix)"
    environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    if "NVML cannot be used" not in done.stdout:
        pytest.skip("this host has NVML")
    assert "nvidia-container-toolkit" in done.stdout
