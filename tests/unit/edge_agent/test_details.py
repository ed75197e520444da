"""What a device tells of itself besides its meters."""

import pytest

from edge_agent import details, probe


def test_only_modules_that_are_loaded_are_told(tmp_path):
    for name in ("sch_tbf", "snd_hda_intel"):
        (tmp_path / "sys/module" / name).mkdir(parents=True)
    assert details.kernel_modules(tmp_path) == ("sch_tbf",)


def test_versions_of_drivers_come_from_where_they_write_them(tmp_path):
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    line = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23 10:11:16 UTC 2025\n"
    (tmp_path / "proc/driver/nvidia/version").write_text(line)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.0\n")
    found = {v.what: v.version for v in details.versions(tmp_path)}
    assert found["nvidia driver"] == "580.95.05"
    assert found["l4t"] == "# R36 (release), REVISION: 4.0"
    assert {"kernel", "python", "numpy"} <= found.keys()


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("Raspberry Pi 5 Model B Rev 1.0", "raspberry-pi-5"),
        ("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit", "jetson-orin-nano"),
        ("Some other board", None),
    ],
)
def test_a_board_that_says_what_it_is_needs_not_be_told(tmp_path, model, kind):
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_text(model + "\0")
    assert probe.likely_kind(tmp_path) == kind
