from pathlib import Path
from typing import Any

import pytest

from cli import compose_up, counts, shapers
from cli.compose import Compose, find
from cli.compose_up import Shown, Wish
from fleet.errors import BadRequest, HalfStarted


@pytest.fixture
def running(engine: Any, compose: Compose) -> Any:
    compose_up.up(engine, compose, Wish(), Shown(), here=False, on_start=lambda stack: None)
    return engine


def scale(engine: Any, compose: Compose, *words: str) -> Any:
    return compose_up.scale(engine, compose, words, Shown(), timeout_s=0.0)


def test_scaling_touches_the_kind_alone_and_shapes_the_further_replicas(
    running: Any, compose: Compose, docker: Any
) -> None:
    docker.calls.clear()
    now, shaped = scale(running, compose, "raspberry-pi-5=3")
    (up,) = [c[c.index("up") + 1 :] for c in docker.calls if "up" in c]
    assert (now, sorted(shaped), up) == (
        {"pi": 3},
        ["bed-pi-link-2", "bed-pi-link-3"],
        ["-d", "--no-build", "--no-recreate", "--scale", "pi=3", "pi"],
    )


def test_a_further_shaper_has_net_admin_only_and_is_taken_down_with_the_project(
    running: Any, compose: Compose
) -> None:
    scale(running, compose, "raspberry-pi-5=2")
    (made,) = running.made
    host = made["HostConfig"]
    assert (host["NetworkMode"], host["CapDrop"], host["CapAdd"], host["ReadonlyRootfs"]) == (
        "container:id-of-bed-pi-2",
        ["ALL"],
        ["NET_ADMIN"],
        True,
    )
    assert (made["Cmd"], made["Labels"]["com.docker.compose.project"]) == (["shape"], "bed")


def test_shapers_of_agents_that_are_gone_go_and_the_files_own_stays(running: Any, compose: Compose) -> None:
    scale(running, compose, "raspberry-pi-5=3")
    scale(running, compose, "raspberry-pi-5=1")
    left = [c.name for c in running.all if "link" in c.name]
    assert left == ["bed-pi-link-1"]


def test_an_agent_that_was_started_again_is_shaped_anew(running: Any, compose: Compose) -> None:
    running.get("bed-pi-1").attrs["State"]["StartedAt"] = "2026-01-01T00:00:00.51Z"
    assert (shapers.shape_all(running, compose.stack(), {"pi": 1}), running.get("bed-pi-link-1").done) == (
        ["bed-pi-link-1"],
        ["restart"],
    )


def test_a_further_shaper_that_fails_is_named_with_its_last_words(running: Any, compose: Compose) -> None:
    running.shaper_ends_with = 1
    with pytest.raises(HalfStarted, match=r"bed-pi-link-2 exited with 1 \(bed-pi-link-2 said: no such qdisc\)"):
        scale(running, compose, "raspberry-pi-5=2")


def test_a_kind_without_a_shaper_needs_none(running: Any, compose: Compose) -> None:
    assert scale(running, compose, "mini-pc-n100=2") == ({"mini": 2}, [])


def test_scaling_to_none_ends_the_agents_and_their_shaper(running: Any, compose: Compose) -> None:
    now, _ = scale(running, compose, "raspberry-pi-5=0")
    assert (now, [c.name for c in running.all if "pi" in c.name and "mini" not in c.name]) == ({"pi": 0}, [])


def test_where_nothing_runs_there_is_nothing_to_scale(engine: Any, compose: Compose) -> None:
    with pytest.raises(BadRequest, match="no testbed of project 'bed' runs; `wattbed up` starts one"):
        scale(engine, compose, "raspberry-pi-5=2")


def test_a_testbed_without_its_coordinator_is_not_scaled(running: Any, compose: Compose) -> None:
    running.get("bed-coordinator-1").attrs["State"] |= {"Status": "exited", "ExitCode": 1}
    with pytest.raises(HalfStarted, match="bed-coordinator-1 exited with 1"):
        scale(running, compose, "raspberry-pi-5=2")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("many",), "scale takes KIND=N, for example raspberry-pi-5=3, not 'many'"),
        (("raspberry-pi-5=-1",), "not 'raspberry-pi-5=-1'"),
        (("raspberry-pi-5=1", "raspberry-pi-5=2"), "raspberry-pi-5 is asked for twice: 1 and 2"),
        (("toaster=1",), "no device kind 'toaster'; it has raspberry-pi-5, mini-pc-n100"),
    ],
)
def test_a_wrong_word_says_what_is_right(
    running: Any, compose: Compose, words: tuple[str, ...], said: str
) -> None:
    with pytest.raises(BadRequest, match=said):
        scale(running, compose, *words)


def test_numbers_and_kinds_are_not_mixed() -> None:
    with pytest.raises(BadRequest, match="one number, or KIND=N as often as needed, not 3, a=1"):
        counts.asked(("3", "a=1"), ("a",), {})


def test_kinds_take_turns_as_long_as_they_have_agents_left() -> None:
    assert counts.in_turn({"a": 3, "b": 1}) == ["a", "b", "a", "a"]


def test_the_compose_file_is_found_above_else_in_the_checkout(tmp_path: Path, compose: Compose) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (below / "docker-compose.yml").write_text("services: {}  # somebody else's")
    assert find(below, Path("/nowhere")) == compose.files[0]
    with pytest.raises(BadRequest, match=r"no docker-compose.yml of wattbed in .*`wattbed up --local`"):
        find(Path("/"), Path("/nowhere"))
