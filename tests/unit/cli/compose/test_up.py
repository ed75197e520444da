import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cli import compose_up, last_up
from cli.compose import Compose, Outcome
from cli.compose_up import Shown, Started, Wish
from fleet.errors import AddressInUse, BadRequest, HalfStarted, Unequipped, Unreachable

Up = Callable[..., Started]


@pytest.fixture
def up(engine: Any, compose: Compose) -> Up:
    def call(*, here: bool = False, **wish: Any) -> Started:
        return compose_up.up(
            engine, compose, Wish(**{"timeout_s": 0.0, **wish}), Shown(), here=here, on_start=lambda stack: None
        )

    return call


def scales(docker: Any) -> list[str]:
    return [w for call in docker.calls if "up" in call for w in call if "=" in w]


def services(docker: Any) -> list[str]:
    return next(call[call.index("up") + 1 :] for call in docker.calls if "up" in call)


def test_all_that_the_file_has_is_started_and_its_addresses_are_told(up: Up, tmp_path: Path) -> None:
    started = up()
    assert (started.services["mini"], started.addresses, started.secrets) == (
        1,
        {"coordinator": "127.0.0.1:50551", "grafana": "http://127.0.0.1:3000"},
        (str(tmp_path / "password.txt"),),
    )


def test_kinds_are_scaled_and_each_replica_gets_a_shaper(up: Up, docker: Any, engine: Any) -> None:
    started = up(agents=("raspberry-pi-5=3",))
    assert (started.services["pi"], started.services["pi-link"], scales(docker)) == (3, 3, ["pi=3", "mini=1"])


def test_a_number_alone_lets_the_kinds_take_turns(up: Up, docker: Any) -> None:
    up(agents=("3",))
    assert scales(docker) == ["pi=2", "mini=1"]


def test_up_again_keeps_the_number_of_agents_and_says_what_it_mended(up: Up, docker: Any, engine: Any) -> None:
    up(agents=("raspberry-pi-5=3",))
    engine.get("bed-coordinator-1").attrs["State"] |= {"Status": "exited", "ExitCode": 137}
    docker.calls.clear()
    started = up()
    assert (scales(docker), started.mended) == (["pi=3", "mini=1"], ("bed-coordinator-1 exited with 137",))


def test_a_kind_of_none_has_no_agent_and_no_shaper(up: Up, docker: Any, engine: Any) -> None:
    up()
    docker.calls.clear()
    started = up(agents=("raspberry-pi-5=0",))
    assert ("pi" in started.services, "pi-link" in started.services, "relay" in started.services) == (
        False,
        False,
        True,
    )


def test_an_unknown_kind_lists_those_of_the_file(up: Up, docker: Any) -> None:
    with pytest.raises(BadRequest, match=r"no device kind 'toaster'; it has raspberry-pi-5, mini-pc-n100$"):
        up(agents=("toaster=2",))


def test_what_others_need_is_not_left_out(up: Up) -> None:
    with pytest.raises(BadRequest, match="grafana needs prometheus: leave it out too, with --without grafana"):
        up(without=("prometheus",))


def test_too_many_agents_for_the_memory_are_refused_with_numbers(up: Up, docker: Any) -> None:
    with pytest.raises(Unequipped, match=r"99 x pi, 1 x mini need about 80\.5 GB .* engine has 16\.0 GB"):
        up(agents=("raspberry-pi-5=99",))
    assert not any("up" in call for call in docker.calls)


def test_an_old_compose_is_named_with_what_is_needed(up: Up, docker: Any) -> None:
    docker.release = "2.19.9\n"
    with pytest.raises(Unequipped, match=r"docker compose 2\.19\.9 is too old: 2\.20 or newer is needed"):
        up()


def test_a_docker_without_compose_is_told_so(up: Up, docker: Any) -> None:
    docker.release = ""
    with pytest.raises(Unequipped, match="`docker compose` is not installed"):
        up()


def test_a_file_that_compose_does_not_take_is_quoted(compose: Compose) -> None:
    def refuse(arguments: Any, environment: Any, on_line: Any = None) -> Outcome:
        return Outcome(15, "", "\x1b[31mservices.pi.cpus must be a number\x1b[0m\n")

    with pytest.raises(
        BadRequest, match=r"does not take .*docker-compose.yml: services.pi.cpus must be a number$"
    ):
        replace(compose, run=refuse).stack()


def test_a_port_in_use_by_a_process_names_it_and_what_to_change(up: Up, docker: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        docker.model["services"]["coordinator"]["ports"][0]["published"] = str(number)
        with pytest.raises(AddressInUse) as refused:
            up(here=True)
    words = str(refused.value)
    assert f"port {number} on 127.0.0.1, which coordinator needs, is in use by " in words
    assert f"pid {__import__('os').getpid()}" in words
    assert f"`--port N` or WATTBED_PORT={number + 1}" in words
    assert not any("up" in call for call in docker.calls)


def test_a_port_in_use_by_another_container_names_it(up: Up, engine: Any) -> None:
    other = engine.add("web", project="blog")
    other.attrs["NetworkSettings"]["Ports"] = {
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "3000"}],
        "81/tcp": None,
    }
    with pytest.raises(AddressInUse, match="port 3000 .* grafana needs, is in use by container blog-web-1"):
        up()


def test_a_project_of_the_same_name_from_another_folder_is_left_alone(up: Up, engine: Any) -> None:
    engine.add("coordinator", folder="/elsewhere")
    with pytest.raises(BadRequest, match="'bed' was started from /elsewhere and has 1 containers: .*--project"):
        up()


def test_only_grafana_missing_says_how_to_do_without(up: Up, engine: Any) -> None:
    engine.here.remove("grafana:1")
    with pytest.raises(
        Unequipped, match=r"grafana:1 is not here .*\(no such host\): `wattbed up --without grafana`"
    ):
        up()
    assert up(without=("grafana",)).services.get("grafana") is None


def test_an_image_that_can_be_pulled_is_pulled(up: Up, engine: Any) -> None:
    engine.here.remove("prom:1")
    engine.pullable.add("prom:1")
    assert up().services["prometheus"] == 1


def test_missing_images_are_built_and_not_when_that_is_forbidden(up: Up, docker: Any, engine: Any) -> None:
    engine.here.remove("agent:1")
    with pytest.raises(Unequipped, match="image agent:1 is not here, and --no-build"):
        up(build=False)
    up()
    assert next(c for c in docker.calls if "build" in c)[-1] == "pi"


def test_a_half_started_testbed_names_who_broke_and_what_it_said(up: Up, docker: Any, engine: Any) -> None:
    docker.broken.add("mini")
    with pytest.raises(HalfStarted) as broken:
        up()
    assert str(broken.value) == (
        "the testbed is half-started: bed-mini-1 exited with 1; "
        "`wattbed logs` shows why, `wattbed up` mends it, `wattbed down` cleans up"
    )
    engine.get("bed-mini-1").said = b"one\nno room for the log\n"
    with pytest.raises(HalfStarted, match=r"bed-mini-1 said: no room for the log"):
        up()


def test_a_port_taken_meanwhile_is_named(up: Up, docker: Any) -> None:
    docker.up_says = "Bind for 127.0.0.1:9090 failed: port is already allocated\n"
    with pytest.raises(AddressInUse, match="port 9090 was taken while the testbed started"):
        up()


def test_who_never_gets_healthy_is_named(up: Up, docker: Any, engine: Any) -> None:
    up()
    engine.get("bed-prometheus-1").attrs["State"]["Health"] = {"Status": "starting"}
    with pytest.raises(Unreachable, match=r"waited 0 s for bed-prometheus-1 \(starting\)"):
        up()


def test_a_part_that_was_stopped_is_not_taken_for_one_that_has_done_its_work(up: Up, engine: Any) -> None:
    up()
    relay = engine.get("bed-relay-1")
    relay.attrs["HostConfig"]["RestartPolicy"] = {"Name": "unless-stopped"}
    relay.attrs["State"] |= {"Status": "exited", "ExitCode": 0}
    assert up().mended == ("bed-relay-1 exited with 0",)


def test_what_was_started_is_noted_with_its_ports(compose: Compose, tmp_path: Path) -> None:
    noted = last_up.note(compose, compose.stack())
    last_up.save(tmp_path / "state", noted)
    assert (last_up.load(tmp_path / "state"), noted.coordinator, noted.environment) == (
        noted,
        "127.0.0.1:50551",
        {"WATTBED_PORT": "50551"},
    )
