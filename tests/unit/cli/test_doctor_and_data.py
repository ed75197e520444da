import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli import doctor
from cli.doctor import Finding
from workloads import data

Wattbed = Callable[..., Any]


@pytest.fixture
def sys_tree(tmp_path: Path) -> Path:
    zone = tmp_path / "class" / "powercap" / "intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "energy_uj").write_text("123\n")
    chip = tmp_path / "class" / "hwmon" / "hwmon3"
    chip.mkdir(parents=True)
    (chip / "name").write_text("ina3221\n")
    return tmp_path


def test_a_counter_that_is_here_is_named_and_never_claimed_to_be_read(sys_tree: Path) -> None:
    found = {c.subject: c for c in doctor.counters(sys_tree)}
    assert (found["joules: RAPL"].detail, found["joules: INA3221"].detail) == (
        "present: intel-rapl:0 (readable); not read by this version",
        "present: hwmon3; not read by this version",
    )


def test_a_counter_that_is_not_here_says_where_it_was_looked_for(tmp_path: Path) -> None:
    rapl = next(doctor.counters(tmp_path))
    assert (rapl.finding, rapl.detail) == (Finding.ABSENT, f"not found: {tmp_path}/class/powercap")


def test_a_module_that_cannot_be_imported_is_broken() -> None:
    assert doctor.module("no_such_module_here").finding is Finding.BROKEN


def test_too_little_room_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ROOM_BYTES", 1 << 62)
    assert doctor.disk(tmp_path / "not" / "yet").finding is Finding.BROKEN


def test_the_doctor_counts_the_attached_devices(wattbed: Wattbed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "REQUIRED_MODULES", ("grpc",))  # torch takes seconds
    monkeypatch.setattr(doctor, "found", lambda _: ())
    said = wattbed("doctor", "--json")
    found = {c["subject"]: c for c in json.loads(said.out)}
    assert (said.code, found["coordinator"]["detail"].endswith("1 of 2 devices attached")) == (0, True)


def test_something_broken_makes_the_doctor_fail(wattbed: Wattbed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "REQUIRED_MODULES", ("no_such_module_here",))
    monkeypatch.setattr(doctor, "found", lambda _: ())
    assert wattbed("doctor").code == 1


def test_a_data_set_that_is_not_here_says_how_to_get_it(
    wattbed: Wattbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(data.KINDS, "fashion-mnist")  # where it is installed, reading it takes seconds
    found = {d["name"]: d for d in json.loads(wattbed("data", "list", "--data", str(tmp_path), "--json").out)}
    assert (found["digits"]["problem"], "wattbed data get cifar-10" in found["cifar-10"]["problem"]) == (
        None,
        True,
    )


def test_a_data_set_nobody_publishes_is_refused_by_name(wattbed: Wattbed) -> None:
    said = wattbed("data", "get", "digitz")
    assert (said.code, "known are fashion-mnist, cifar-10" in said.err) == (2, True)


def test_a_mirror_that_does_not_answer_is_exit_code_3(wattbed: Wattbed, free_address: str) -> None:
    said = wattbed("data", "get", "cifar-10", "--from", f"http://{free_address}", "--to", "here")
    assert (said.code, free_address in said.err) == (3, True)


def test_without_local_up_says_what_it_waits_for(wattbed: Wattbed) -> None:
    said = wattbed("up")
    assert (said.code, "a later release" in said.err) == (2, True)


def test_an_unknown_kind_lists_the_known_ones(wattbed: Wattbed) -> None:
    said = wattbed("up", "--local", "--kind", "toaster")
    assert (said.code, "unknown device kind 'toaster'; known are raspberry-pi-5" in said.err) == (2, True)


def test_down_where_nothing_runs_is_no_error(wattbed: Wattbed) -> None:
    said = wattbed("down")
    assert (said.code, said.out) == (0, "nothing was running\n")
