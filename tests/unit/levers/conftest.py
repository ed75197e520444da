"""Trees and objects that stand in for hardware that can be set."""

import types

import pytest


@pytest.fixture
def sysfs(tmp_path):
    """Four processors in two clusters, and a Jetson's GPU."""
    root = tmp_path / "sys"
    cpufreq = root / "devices/system/cpu/cpufreq"
    for policy, least, most, steps in (
        ("policy0", 400_000, 1_800_000, ""),
        ("policy4", 600_000, 2_400_000, "600000 1200000 2400000"),
    ):
        folder = cpufreq / policy
        folder.mkdir(parents=True)
        for name, value in (
            ("cpuinfo_min_freq", least),
            ("cpuinfo_max_freq", most),
            ("scaling_min_freq", least),
            ("scaling_max_freq", most),
        ):
            (folder / name).write_text(f"{value}\n")
        if steps:
            (folder / "scaling_available_frequencies").write_text(steps + " \n")
    gpu = root / "class/devfreq/17000000.gpu"
    gpu.mkdir(parents=True)
    (gpu / "available_frequencies").write_text("306000000 510000000 918000000\n")
    (gpu / "min_freq").write_text("306000000\n")
    (gpu / "max_freq").write_text("918000000\n")
    memory = root / "class/devfreq/31b0000.emc"
    memory.mkdir(parents=True)
    (memory / "max_freq").write_text("1\n")
    return root


@pytest.fixture
def policies(sysfs):
    """The greatest clocks of the two clusters, in kHz."""

    def read():
        return [
            int((sysfs / f"devices/system/cpu/cpufreq/policy{n}/scaling_max_freq").read_text()) for n in (0, 4)
        ]

    return read


class NvmlError(Exception):
    pass


@pytest.fixture
def nvml():
    """One GPU of 60 to 115 W and 300 to 2100 MHz, with a limit of 100 W."""
    state = {"limit_mw": 100_000, "locked": None, "refuse": False}

    def write(key):
        def call(handle, *values):
            if state["refuse"]:
                raise NvmlError("Insufficient Permissions")
            state[key] = values[0] if len(values) == 1 else (values or None)

        return call

    return types.SimpleNamespace(
        NVMLError=NvmlError,
        state=state,
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda index: "handle",
        nvmlDeviceGetUUID=lambda handle: "GPU-1",
        nvmlDeviceGetPowerManagementLimitConstraints=lambda handle: [60_000, 115_000],
        nvmlDeviceGetPowerManagementLimit=lambda handle: state["limit_mw"],
        nvmlDeviceSetPowerManagementLimit=write("limit_mw"),
        nvmlDeviceGetSupportedMemoryClocks=lambda handle: [8000, 405],
        nvmlDeviceGetSupportedGraphicsClocks=lambda handle, memory: [2100, 1200, 300],
        nvmlDeviceSetGpuLockedClocks=write("locked"),
        nvmlDeviceResetGpuLockedClocks=write("locked"),
    )


@pytest.fixture
def jetson(tmp_path):
    """etc/nvpmodel.conf, and a command that keeps its mode in a file; mode 3 wants a reboot."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/nvpmodel.conf").write_text(
        "< POWER_MODEL ID=0 NAME=MAXN >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=1 NAME=15W >\n"
        "< POWER_MODEL ID=2 NAME=7W >\n< POWER_MODEL ID=3 NAME=25W >\n< PM_CONFIG DEFAULT=1 >\n"
    )
    (root / "mode").write_text("0")
    command = root / "nvpmodel"
    command.write_text(
        f"""#!/bin/sh
mode={root}/mode
case "$1 $2" in
  "-q ") echo "NV Power Mode: whatever"; cat $mode ;;
  "-m 3") read answer; echo "Reboot required, DO YOU WANT TO REBOOT NOW? [YES/NO] $answer" ;;
  "-m "*) echo "$2" > $mode ;;
esac
"""
    )
    command.chmod(0o755)
    return root
