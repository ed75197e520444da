"""Fake trees of sysfs, a clock that stands until it is told, and figures of a GPU that the test sets."""

from pathlib import Path

import pytest

from edge_agent.energy.discover import discover
from edge_agent.energy.nvml import GPU_IS_LOST, NOT_SUPPORTED, NvmlFailed

RANGE_UJ = 262_143_328_850
"""max_energy_range_uj of a counter in steps of 61.035 uJ, as Linux shows it; the counter itself is 32 bits wide."""

SERVER_CPUINFO = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vme sse2\n"


class Clock:
    """Nanoseconds that pass only when told."""

    def __init__(self):
        self.ns = 1_000_000_000

    def __call__(self):
        return self.ns

    def pass_(self, seconds):
        self.ns += round(seconds * 1e9)


class Powercap:
    """The powercap tree of sysfs: zones with names and counters, flat in class/ as links, nested in devices/."""

    def __init__(self, sys):
        self.sys = sys
        self.devices = sys / "devices/virtual/powercap"
        self.listed = sys / "class/powercap"
        self.listed.mkdir(parents=True)
        self.watts = {}

    def zone(self, key, name, uj=1_000_000, watts=100.0, range_uj=RANGE_UJ, max_power_uw=None):
        """A zone such as intel-rapl:0 or intel-rapl:0:1, growing by `watts`; returns its directory."""
        control, *numbers = key.split(":")
        path = self.devices / control
        for depth in range(1, len(numbers) + 1):
            path /= ":".join([control, *numbers[:depth]])
        path.mkdir(parents=True)
        for file, content in {
            "name": name,
            "energy_uj": uj,
            "enabled": 0,
            "max_energy_range_uj": range_uj,
            "constraint_0_max_power_uw": max_power_uw,
        }.items():
            if content is not None:
                (path / file).write_text(f"{content}\n")
        for target in (self.devices / control, path):
            link = self.listed / target.name
            if not link.is_symlink():
                link.symlink_to(Path("../..") / target.relative_to(self.sys))
        self.watts[path] = watts
        return path

    def pass_(self, seconds):
        """Every zone that can be read grows by its watts, and starts again past its range."""
        for path, watts in self.watts.items():
            file = path / "energy_uj"
            uj = file.read_text().strip() if file.exists() else ""
            if uj.isdecimal():
                width = RANGE_UJ + 61
                anew = file.with_name("anew")
                anew.write_text(f"{(int(uj) + round(watts * seconds * 1e6)) % width}\n")
                anew.replace(file)


class Host:
    """A host whose sysfs, procfs and clock are fake; what it spends grows while time passes."""

    def __init__(self, root):
        self.sys, self.proc, self.clock = root / "sys", root / "proc", Clock()
        self.sys.mkdir(parents=True)
        self.proc.mkdir()
        (self.proc / "cpuinfo").write_text(SERVER_CPUINFO)
        self.powercap = None
        self.sleeps = 0

    def zone(self, key, name, **figures):
        self.powercap = self.powercap or Powercap(self.sys)
        return self.powercap.zone(key, name, **figures)

    def pass_(self, seconds):
        self.clock.pass_(seconds)
        if self.powercap:
            self.powercap.pass_(seconds)

    def discover(self, nvml=None, plugs=(), kind=None):
        return discover(self.sys, self.proc, nvml, plugs, kind, clock=self.clock, spin=self.pass_, live=True)

    def hwmon(self, name, address="1-0040", number=0, driver="ina3221", **files):
        """A chip below its I2C device, with a link to it in class/hwmon."""
        device = self.sys / f"devices/platform/bus@0/c240000.i2c/i2c-1/{address}"
        path = device / f"hwmon/hwmon{number}"
        path.mkdir(parents=True)
        (path / "device").symlink_to("../..")
        for file, content in {"name": name, **files}.items():
            (path / file).write_text(f"{content}\n")
        listed = self.sys / "class/hwmon"
        listed.mkdir(parents=True, exist_ok=True)
        (listed / path.name).symlink_to(Path("../..") / path.relative_to(self.sys))
        return path

    def ina3221(self, labels, millivolts=5000, milliamperes=(400, 300, 200), address="1-0040", number=0):
        """An INA3221 with up to three labelled channels, its shunt voltages and its sums."""
        files = {"in7_label": "sum of shunt voltages", "in7_input": 99, "curr4_input": 9999, "in4_input": 17}
        for n, (label, current) in enumerate(zip(labels, milliamperes, strict=False), start=1):
            files |= {f"in{n}_label": label, f"in{n}_input": millivolts, f"curr{n}_input": current}
            files[f"in{n}_enable"] = 1
        return self.hwmon("ina3221", address, number, **files)

    def ina238(self, microwatts, address="1-0044", number=9):
        return self.hwmon("ina238", address, number, power1_input=microwatts)

    def iio(self, rails, address="6-0040"):
        """JetPack 4's driver: (label, mW) by channel."""
        device = self.sys / f"devices/platform/7000c400.i2c/i2c-6/{address}/iio:device0"
        device.mkdir(parents=True)
        for n, (label, milliwatts) in enumerate(rails):
            (device / f"rail_name_{n}").write_text(f"{label}\n")
            (device / f"in_power{n}_input").write_text(f"{milliwatts}\n")
        driver = self.sys / "bus/i2c/drivers/ina3221x"
        driver.mkdir(parents=True)
        (driver / address).symlink_to(device.parent)
        return device

    def battery(self, name="BAT0", **files):
        path = self.sys / f"class/power_supply/{name}"
        path.mkdir(parents=True)
        for file, content in {"type": "Battery", **files}.items():
            (path / file).write_text(f"{content}\n")
        return path


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


class FakeGpu:
    """One GPU as NVML shows it; None and absent figures are NotSupported."""

    def __init__(
        self, uuid, name="NVIDIA H100", energy_mj=None, power_mw=None, fields=None, architecture=9, **more
    ):
        self.uuid, self.name, self.energy_mj, self.power_mw = uuid, name, energy_mj, power_mw
        self.fields, self.architecture = fields or {}, architecture
        self.slice_of = more.pop("slice_of", None)
        self.mig = more.pop("mig", False)
        self.lost = False
        assert not more


class FakeNvml:
    """NvmlApi over FakeGpus."""

    def __init__(self, *gpus):
        self.gpus = gpus

    def devices(self):
        return self.gpus

    def physical(self, handle):
        return handle.slice_of or handle

    def uuid(self, handle):
        return self._answer(handle, handle.uuid)

    def name(self, handle):
        return self._answer(handle, handle.name)

    def architecture(self, handle):
        return self._answer(handle, handle.architecture)

    def mig(self, handle):
        return handle.mig

    def energy_mj(self, handle):
        return self._answer(handle, handle.energy_mj)

    def power_mw(self, handle):
        return self._answer(handle, handle.power_mw)

    def field_mw(self, handle, field, scope):
        return self._answer(handle, handle.fields.get((field, scope)))

    @staticmethod
    def _answer(handle, value):
        if handle.lost:
            raise NvmlFailed(GPU_IS_LOST, "gpu_is_lost", "GPU is lost")
        if value is None:
            raise NvmlFailed(NOT_SUPPORTED, "not_supported", "Not Supported")
        return value


@pytest.fixture
def gpu():
    return FakeGpu


@pytest.fixture
def nvml():
    return FakeNvml
