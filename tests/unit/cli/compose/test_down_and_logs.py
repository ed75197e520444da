from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli import compose_down, logs, testbed
from cli.local import Running
from fleet.errors import BadRequest, WattbedError


@pytest.fixture
def half(engine: Any) -> Any:
    """A half-started testbed: an agent that depends on the coordinator, an exited part, a network, a volume."""
    for name in ("coordinator", "pi", "prometheus"):
        engine.add(name)
    engine.get("bed-pi-1").labels[compose_down.DEPENDS_ON] = "coordinator:service_healthy:false"
    engine.get("bed-prometheus-1").attrs["State"] |= {"Status": "exited", "ExitCode": 2}
    for things, name in ((engine.nets, "bed_default"), (engine.vols, "bed_models")):
        things.append(_thing(name, things))
    return engine


def _thing(name: str, of: list[Any]) -> Any:
    thing = type("Thing", (), {"name": name})()
    thing.remove = lambda: of.remove(thing)
    return thing


def test_down_takes_a_half_started_testbed_away_dependents_first_and_keeps_the_models(half: Any) -> None:
    ended = compose_down.down(half, "bed", purge=False)
    assert (half.order.index("bed-pi-1") < half.order.index("bed-coordinator-1"), half.all) == (True, [])
    assert (ended.networks, [v.name for v in half.vols]) == (("bed_default",), ["bed_models"])


def test_purge_takes_the_volumes_too(half: Any) -> None:
    assert compose_down.down(half, "bed", purge=True).volumes == ("bed_models",)


def test_down_leaves_other_projects_alone(half: Any) -> None:
    half.add("web", project="blog")
    compose_down.down(half, "bed", purge=True)
    assert [c.name for c in half.all] == ["blog-web-1"]


def test_what_the_engine_will_not_remove_is_named_and_the_rest_is_gone(half: Any) -> None:
    half.get("bed-pi-1").stubborn = True
    with pytest.raises(WattbedError, match=r"would not remove bed-pi-1 \(device is busy\)$"):
        compose_down.down(half, "bed", purge=False)
    assert [c.name for c in half.all] == ["bed-pi-1"]


def test_containers_that_depend_on_each_other_are_still_ended(engine: Any) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        engine.add(name).labels[compose_down.DEPENDS_ON] = f"{other}:service_started:true"
    assert len(compose_down.down(engine, "bed", purge=False).containers) == 2


def test_lines_of_several_containers_come_in_the_order_of_their_time(engine: Any) -> None:
    engine.add("coordinator").said = b"2026-01-01T00:00:01Z round 1\n2026-01-01T00:00:03Z round 2\n"
    engine.add("pi").said = b"2026-01-01T00:00:02Z training\n"
    lines = logs.of_project(engine, "bed", (), None, follow=False)
    assert [(line.part, line.text) for line in lines] == [
        ("coordinator-1", "round 1"),
        ("pi-1", "training"),
        ("coordinator-1", "round 2"),
    ]


def test_the_last_lines_of_one_service(engine: Any) -> None:
    engine.add("coordinator").said = b"2026-01-01T00:00:01Z one\n2026-01-01T00:00:02Z two\n"
    engine.add("pi").said = b"2026-01-01T00:00:03Z three\n"
    (line,) = logs.of_project(engine, "bed", ("coordinator",), 1, follow=False)
    assert line == logs.Line("coordinator-1", "two", "2026-01-01T00:00:02Z")


def test_following_ends_when_every_container_has(engine: Any) -> None:
    engine.add("pi").said = b"t a\nt b"
    engine.add("mini").said = b"t c\n"
    lines = logs.of_project(engine, "bed", (), None, follow=True)
    assert sorted(line.text for line in lines) == ["a", "b", "c"]


def test_an_unknown_service_lists_those_there_are(engine: Any) -> None:
    engine.add("pi")
    with pytest.raises(BadRequest, match="no service toaster in project 'bed'; there are pi"):
        logs.of_project(engine, "bed", ("toaster",), None, follow=False)


def test_logs_of_processes_are_their_files(tmp_path: Path) -> None:
    log = tmp_path / "agent-1.log"
    log.write_text("one\ntwo\nthree\n")
    ended = Running("agent-1", "edge_agent", {}, 2**22 + 1, 0.0, str(log))
    lines = logs.of_processes([ended], (), 2, follow=True)
    assert [line.text for line in lines] == ["two", "three"]


def test_down_in_a_folder_of_processes_asks_no_engine(
    wattbed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".wattbed").mkdir()
    (tmp_path / ".wattbed" / "testbed.json").write_text(
        '{"address": "h:1", "http_address": "h:2", "processes": []}'
    )
    monkeypatch.setattr(testbed, "connect", lambda: pytest.fail("the engine was asked"))
    said = wattbed("down")
    assert (said.code, said.out) == (0, "nothing was running\n")


def test_a_project_that_is_named_needs_an_engine(wattbed: Callable[..., Any]) -> None:
    said = wattbed("down", "--project", "bed", "--json")
    assert (said.code, '"error": "Unreachable"' in said.out) == (3, True)


def test_logs_without_an_engine_say_so(wattbed: Callable[..., Any]) -> None:
    said = wattbed("logs", "--project", "bed")
    assert (said.code, "the Docker engine is not running" in said.err) == (3, True)
