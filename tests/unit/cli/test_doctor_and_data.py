import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli import doctor, local
from cli.checks import Finding
from workloads import data

Wattbed = Callable[..., Any]
TWO_KINDS = ["mini-pc-n100", "raspberry-pi-5"]


def test_a_module_that_cannot_be_imported_is_broken() -> None:
    assert doctor.module("no_such_module_here").finding is Finding.BROKEN


def test_too_little_room_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ROOM_BYTES", 1 << 62)
    assert doctor.disk(tmp_path / "not" / "yet").finding is Finding.BROKEN


def test_the_doctor_counts_the_attached_devices(wattbed: Wattbed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "REQUIRED_MODULES", ("grpc",))  # torch takes seconds
    monkeypatch.setattr(doctor, "found", lambda _: ())
    said = wattbed("doctor", "--json")
    found = {c["subject"]: c for c in json.loads(said.out)["checks"]}
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


def test_up_without_an_engine_says_how_to_start_it(wattbed: Wattbed) -> None:
    said = wattbed("up")
    assert (said.code, "the Docker engine is not running" in said.err) == (3, True)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--local", "--without", "grafana"), "--without is for the compose testbed, not for --local"),
        (("--data", "."), "--data needs --local"),
        (("--local", "--agents", "0"), "a testbed without agents trains nothing"),
        (("--local", "--agents", "2", "--agents", "mini-pc-n100=1"), "one number, or KIND=N"),
        (("--local", "--agents", "toaster=1"), "unknown device kind 'toaster'"),
    ],
)
def test_an_option_of_the_other_kind_of_testbed_is_refused(
    wattbed: Wattbed, words: tuple[str, ...], why: str
) -> None:
    said = wattbed("up", *words)
    assert (said.code, why in said.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "kinds"),
    [
        (("--agents", "3", "--kind", "mini-pc-n100"), ["mini-pc-n100"] * 3),
        (("--agents", "mini-pc-n100=1", "--agents", "raspberry-pi-5=2"), [*TWO_KINDS, "raspberry-pi-5"]),
    ],
)
def test_local_agents_are_of_the_kinds_that_are_asked(
    wattbed: Wattbed, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], kinds: list[str]
) -> None:
    asked: list[Any] = []

    def start(state: Path, **options: Any) -> Any:
        asked.append(options["kinds"])
        return local.Testbed("h:1", "h:2"), ()

    monkeypatch.setattr(local, "up", start)
    wattbed("up", "--local", *words)
    assert asked == [kinds]


@pytest.mark.parametrize(("answer", "finding"), [(0, "ok"), (5, "absent"), (-1, "unknown")])
def test_the_kernel_says_whether_the_clock_is_kept_right(answer: int, finding: str) -> None:
    assert doctor.clock(lambda buffer: answer).finding == finding


def test_an_unknown_kind_lists_the_known_ones(wattbed: Wattbed) -> None:
    said = wattbed("up", "--local", "--kind", "toaster")
    assert (said.code, "unknown device kind 'toaster'; known are raspberry-pi-5" in said.err) == (2, True)


def test_down_where_nothing_runs_is_no_error(wattbed: Wattbed) -> None:
    said = wattbed("down")
    assert (said.code, said.out) == (0, "nothing was running\n")
