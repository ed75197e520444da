import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import BadExperiment, IllegalMove

Wattbed = Callable[..., Any]
EXPERIMENT = """
name = "demo"
seed = 1
rounds = 2
shards = 2
workload = { name = "noop", options = {} }
policy = { name = "fixed", options = {} }
round = { mode = "sync", min_devices = 2, devices = 2, quorum = 2, deadline_s = 60.0 }
server = { optimizer = "fedavg", lr = 1.0 }
quantizer = { block_size = 64, error_feedback = true }
evaluate = { every = 1 }
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "x.toml"
    path.write_text(EXPERIMENT)
    return str(path)


def test_a_followed_run_prints_its_rounds_with_fid_and_joules(wattbed: Wattbed, file: str) -> None:
    said = wattbed("run", file)
    assert [line.split(":")[0] for line in said.out.splitlines()] == [
        "round 0 initial",
        "round 1 opened",
        "round 1/2 closed",
        "round 2 opened",
        "round 2/2 closed",
        "demo-1 completed after round 2 of 2; `wattbed report demo-1`",
    ]


def test_a_round_line_names_quality_and_source_of_its_joules(wattbed: Wattbed, file: str) -> None:
    line = wattbed("run", file).out.splitlines()[4]
    assert line == (
        "round 2/2 closed: 2/2 updates in 49.0 s, 22 kB up, 80 kB down, 22 J+ (estimated, board: model), fid 30"
    )


def test_a_run_that_completed_ends_with_0(wattbed: Wattbed, file: str) -> None:
    assert wattbed("run", file).code == 0


@pytest.mark.parametrize("phase", ["failed", "stopped"])
def test_a_run_that_did_not_complete_ends_with_1(wattbed: Wattbed, file: str, operator: Any, phase: str) -> None:
    operator.report = replace(operator.report, run=replace(operator.report.run, phase=phase, reason="why"))
    said = wattbed("run", file)
    assert (said.code, f"demo-1 {phase} after round 2 of 2: why" in said.out) == (1, True)


def test_a_coordinator_that_dies_is_waited_for_and_nothing_is_shown_twice(
    wattbed: Wattbed, file: str, operator: Any
) -> None:
    operator.cut_after = 6
    kinds = [json.loads(line).get("kind") for line in wattbed("run", file, "--json").out.splitlines()]
    assert (operator.watched_after, kinds) == (
        [0, 6],
        ["RunStarted", "RoundOpened", "ModelEvaluated", "RunEnded", None],
    )


def test_with_json_every_line_is_an_object_and_the_last_is_the_summary(wattbed: Wattbed, file: str) -> None:
    lines = [json.loads(line) for line in wattbed("run", file, "--json").out.splitlines()]
    assert (lines[0], lines[-1]["summary"]["phase"]) == (
        {"seq": 3, "at_s": 1001.0, "kind": "RunStarted", "body": {"run": "demo-1", "n": 1}},
        "completed",
    )


def test_detached_it_only_starts_the_run(wattbed: Wattbed, file: str, operator: Any) -> None:
    said = wattbed("run", file, "--detach", "--json")
    assert (json.loads(said.out), len(operator.started), operator.watched_after) == ({"run": "demo-1"}, 1, [])


def test_the_whole_experiment_reaches_the_coordinator(wattbed: Wattbed, file: str, operator: Any) -> None:
    wattbed("run", file, "--detach")
    sent = json.loads(operator.started[0].experiment_json)
    assert (sent["round"]["deadline_s"], sent["server"]["optimizer"]) == (60.0, "fedavg")


def test_ctrl_c_leaves_the_run_alone(
    wattbed: Wattbed, file: str, operator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cli.run.follow", interrupted)
    said = wattbed("run", file)
    assert (said.code, "detached: demo-1 goes on" in said.err, operator.stopped) == (130, True, [])


def test_a_bad_experiment_is_refused_before_anyone_is_asked(
    wattbed: Wattbed, tmp_path: Path, operator: Any
) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text(EXPERIMENT.replace("seed", "sead"))
    said = wattbed("run", str(bad))
    assert (said.code, "unknown key sead" in said.err, operator.started) == (2, True, [])


def test_what_the_coordinator_refuses_is_told_in_its_words(wattbed: Wattbed, file: str, operator: Any) -> None:
    operator.error = BadExperiment("workload.options.batch = -1: must be positive")
    said = wattbed("run", file)
    assert (said.code, said.err) == (2, "wattbed: workload.options.batch = -1: must be positive\n")


def test_with_json_an_error_is_an_object_too(wattbed: Wattbed, operator: Any) -> None:
    operator.error = IllegalMove("demo-1 has ended")
    said = wattbed("runs", "stop", "demo-1", "--json")
    expected = {"error": "IllegalMove", "message": "demo-1 has ended", "exit_code": 1}
    assert (said.code, json.loads(said.out)) == (1, expected)


def test_no_coordinator_is_exit_code_3_and_names_the_address(wattbed: Wattbed, free_address: str) -> None:
    said = wattbed("runs", "--coordinator", free_address)
    assert (said.code, f"no coordinator answers at {free_address}" in said.err) == (3, True)


def test_an_unknown_run_lists_the_known_ones(wattbed: Wattbed) -> None:
    said = wattbed("runs", "show", "nope")
    assert (said.code, "no run 'nope'" in said.err, "older-1, demo-1" in said.err) == (1, True, True)


def test_latest_is_the_run_that_began_last(wattbed: Wattbed) -> None:
    assert json.loads(wattbed("runs", "show", "latest", "--json").out)["run"] == "demo-1"


def test_runs_are_listed_oldest_first(wattbed: Wattbed) -> None:
    assert [r["run"] for r in json.loads(wattbed("runs", "--json").out)] == ["older-1", "demo-1"]


def test_stopping_gives_the_reason_to_the_log(wattbed: Wattbed, operator: Any) -> None:
    wattbed("runs", "stop", "latest", "--reason", "too warm here")
    assert (operator.stopped[0].run, operator.stopped[0].reason) == ("demo-1", "too warm here")


def test_an_option_in_front_of_a_subcommand_is_refused_instead_of_forgotten(wattbed: Wattbed) -> None:
    said = wattbed("runs", "--json", "show", "demo-1")
    assert (said.code, "--json belongs after `show`" in said.err) == (2, True)


def test_a_replay_to_the_same_state_ends_with_0(wattbed: Wattbed) -> None:
    found = json.loads(wattbed("replay", "demo-1", "--json").out)
    assert (found["same_state"], found["events"], found["state_sha256"]) == (True, 4, "ee" * 32)


def test_a_replay_to_another_state_ends_with_1(wattbed: Wattbed, operator: Any) -> None:
    operator.same_state = False
    said = wattbed("replay", "demo-1")
    assert (said.code, "ANOTHER state" in said.out) == (1, True)


def test_an_exported_history_is_the_log_line_by_line(wattbed: Wattbed, operator: Any, tmp_path: Path) -> None:
    wattbed("replay", "latest", "--export", "h.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "h.jsonl").read_text().splitlines()]
    expected = [
        {"seq": e.seq, "at_s": e.at_s, "kind": e.kind, "body": json.loads(e.json)} for e in operator.events
    ]
    assert lines == expected


def test_a_run_that_goes_on_has_no_history_to_export_yet(wattbed: Wattbed, operator: Any) -> None:
    going = replace(operator.report.run, phase="training", ended_at_s=None)
    operator.report = replace(operator.report, run=going)
    said = wattbed("replay", "demo-1", "--export", "h.jsonl")
    assert (said.code, "still training" in said.err) == (2, True)


def test_a_device_says_what_it_can_measure(wattbed: Wattbed) -> None:
    said = wattbed("devices", "show", "agent-1")
    assert "3.3 W cpu (estimated: model)" in said.out


def test_devices_tell_who_is_away(wattbed: Wattbed) -> None:
    found = {d["device"]: d["attached"] for d in json.loads(wattbed("devices", "--json").out)}
    assert found == {"agent-1": True, "agent-2": False}


def test_an_unknown_device_lists_the_known_ones(wattbed: Wattbed) -> None:
    said = wattbed("devices", "show", "nope")
    assert (said.code, "known are: agent-1, agent-2" in said.err) == (1, True)
