"""The compose file and its overlays, as compose and buildx understand them. Nothing is started."""

import json
import subprocess

import pytest

OVERLAYS = (
    ("docker-compose.yml",),
    ("docker-compose.yml", "deploy/compose.nvidia.yml"),
    ("docker-compose.yml", "deploy/compose.jetson.yml"),
    ("deploy/swarm.yml",),
)
IDS = ["compose", "nvidia", "jetson", "swarm"]


@pytest.fixture(scope="session")
def config(engine, root):
    """What `docker compose config` makes of some files."""

    def resolve(files: tuple[str, ...]) -> dict:
        command = ["docker", "compose", *(part for f in files for part in ("-f", f)), "config", "--format", "json"]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return resolve


@pytest.mark.parametrize("files", OVERLAYS, ids=IDS)
def test_no_container_is_privileged_keeps_a_capability_or_writes_to_its_image(config, files):
    services = config(files)["services"]
    loose = {
        name
        for name, s in services.items()
        if s.get("privileged")
        or s.get("cap_drop") != ["ALL"]
        or not s.get("read_only")
        or s.get("network_mode") == "host"
    }
    assert loose == set()


@pytest.mark.parametrize("files", OVERLAYS, ids=IDS)
def test_only_the_shapers_of_links_are_given_a_capability_and_it_is_net_admin(config, files):
    given = {name: s["cap_add"] for name, s in config(files)["services"].items() if s.get("cap_add")}
    assert {c for added in given.values() for c in added} <= {"NET_ADMIN"}
    assert all(name.endswith("-link") for name in given)


@pytest.mark.parametrize("files", OVERLAYS, ids=IDS)
def test_no_container_gets_the_engines_socket_or_may_write_to_the_host(config, files):
    binds = [v for s in config(files)["services"].values() for v in s.get("volumes", ()) if v["type"] == "bind"]
    assert [v["source"] for v in binds if "docker.sock" in v["source"] or not v.get("read_only")] == []


@pytest.mark.parametrize("files", OVERLAYS[:3], ids=IDS[:3])
def test_ports_are_open_on_loopback_only(config, files):
    ports = [p for s in config(files)["services"].values() for p in s.get("ports", ())]
    assert {p["host_ip"] for p in ports} == {"127.0.0.1"}


@pytest.mark.parametrize("files", OVERLAYS, ids=IDS)
def test_every_container_has_a_limit_of_memory_or_is_a_device_of_its_own(config, files):
    services = config(files)["services"]
    free = {
        name
        for name, s in services.items()
        if not s.get("mem_limit") and not s.get("deploy", {}).get("resources", {}).get("limits", {}).get("memory")
    }
    assert free <= {"nvidia", "jetson", "host"}


def test_images_are_baked_for_two_architectures(engine, root):
    command = ["docker", "buildx", "bake", "-f", "deploy/docker-bake.hcl", "--print"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    targets = json.loads(done.stdout)["target"]
    assert {n: t["platforms"] for n, t in targets.items()} == {
        "agent": ["linux/amd64", "linux/arm64"],
        "coordinator": ["linux/amd64", "linux/arm64"],
    }
