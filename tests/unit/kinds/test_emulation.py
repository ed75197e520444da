"""What is written twice about the containers is the same: kinds, compose file, swarm file, images, experiment."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fleet.experiment import read
from fleet.kinds import kinds

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
SWARM = yaml.safe_load((ROOT / "deploy/swarm.yml").read_text())["services"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EMULATED = {name: kind for name, kind in kinds().items() if kind.emulation}


def agents(services: dict) -> dict[str, dict]:
    """The services that emulate a device, by the kind they say they are."""
    found = {}
    for service in services.values():
        environment = service.get("environment", {})
        if "WATTBED_RELAY" in environment and "network_mode" not in service:
            found[environment["WATTBED_KIND"]] = service
    return found


def relay_ports(services: dict) -> dict[str, str]:
    """The port of the relay for each kind."""
    pairs = services["relay"]["environment"]["WATTBED_RELAYS"].split(",")
    return {
        kind.strip(): address.rpartition(":")[2] for kind, _, address in (pair.partition("=") for pair in pairs)
    }


@pytest.mark.parametrize("services", [COMPOSE, SWARM], ids=["compose", "swarm"])
def test_every_emulated_kind_has_a_service_and_no_other(services):
    assert set(agents(services)) == set(EMULATED)


@pytest.mark.parametrize("name", EMULATED)
def test_a_compose_service_gets_what_its_kind_says(name):
    service, emulation = COMPOSE[name], kinds()[name].emulation
    assert (service["cpus"], service["mem_limit"], service["memswap_limit"], service["environment"]["WATTBED_THREADS"]) == (
        emulation.cpus,
        emulation.memory_bytes,
        emulation.memory_bytes,
        emulation.threads,
    )  # fmt: skip


@pytest.mark.parametrize("name", EMULATED)
def test_a_swarm_service_gets_what_its_kind_says(name):
    service, emulation = SWARM[name], kinds()[name].emulation
    limits = service["deploy"]["resources"]["limits"]
    assert (float(limits["cpus"]), int(limits["memory"]), int(service["environment"]["WATTBED_THREADS"])) == (
        emulation.cpus,
        emulation.memory_bytes,
        emulation.threads,
    )


def test_containers_keep_the_order_of_speed_of_the_kinds():
    order = ["raspberry-pi-5", "jetson-orin-nano", "mini-pc-n100", "gpu-workstation"]
    assert sorted(EMULATED, key=lambda name: EMULATED[name].emulation.cpus) == order


@pytest.mark.parametrize("services", [COMPOSE, SWARM], ids=["compose", "swarm"])
def test_each_kind_goes_to_the_relays_port_of_its_own(services):
    goes = {name: s["environment"]["WATTBED_RELAY"].rpartition(":")[2] for name, s in agents(services).items()}
    assert goes == relay_ports(services)
    assert len(set(goes.values())) == len(goes)


@pytest.mark.parametrize("name", EMULATED)
def test_the_shaper_of_a_kind_shapes_that_kind_and_the_relay_waits_for_it(name):
    shaper = COMPOSE[f"{name}-link"]
    waits = COMPOSE["relay"]["depends_on"][f"{name}-link"]["condition"]
    assert (shaper["network_mode"], shaper["environment"], waits) == (
        f"service:{name}",
        COMPOSE[name]["environment"],
        "service_completed_successfully",
    )


def test_the_emulated_experiment_has_bits_of_its_own_for_each_kind():
    experiment = read(ROOT / "experiments/emulated.toml")
    bits = experiment.policy.options["bits_up"]
    assert (len(set(bits)), experiment.round.min_devices, experiment.round.devices) == (len(EMULATED),) * 3


def test_images_carry_the_version_of_the_project_and_none_is_the_latest():
    files = ("docker-compose.yml", *(f"deploy/{n}.yml" for n in ("compose.nvidia", "compose.jetson", "swarm")))
    images = {
        i
        for f in files
        for i in re.findall(r"^ +image: (?:\$\{WATTBED_REGISTRY:-\})?(\S+)", (ROOT / f).read_text(), re.MULTILINE)
    }
    ours = {i for i in images if i.startswith("wattbed-")}
    version = PROJECT["version"]
    assert all(re.fullmatch(rf"wattbed-(agent|coordinator):{re.escape(version)}(-gpu|-l4t)?", i) for i in ours)
    assert all(re.fullmatch(r"\S+:v?\d\S*", i) for i in images - ours)
    assert f'default = "{version}"' in (ROOT / "deploy/docker-bake.hcl").read_text()


def test_the_images_torch_is_the_projects():
    (torch,) = (Requirement(r) for r in PROJECT["dependencies"] if r.startswith("torch=="))
    assert (
        f"ARG TORCH_VERSION={str(torch.specifier).removeprefix('==')}\n"
        in (ROOT / "deploy/Dockerfile").read_text()
    )


def pinned(*lists: str) -> dict[str, set[str]]:
    """The versions of each package in some lists."""
    found: dict[str, set[str]] = {}
    for name in lists:
        for package, version in re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / name).read_text(), re.MULTILINE):
            found.setdefault(canonicalize_name(package), set()).add(version)
    return found


@pytest.mark.parametrize("image", ["agent", "coordinator"])
def test_an_image_carries_all_that_its_packages_need_at_the_locked_versions(image):
    carried, locked = pinned("deploy/both.txt", f"deploy/{image}.txt"), pinned("requirements.lock")
    needed = {
        canonicalize_name(r.name)
        for package in carried
        for r in map(Requirement, requires_here(package))
        if r.marker is None or r.marker.evaluate({"extra": ""})
    }
    assert needed - carried.keys() - {"torch"} == set()
    assert {p: v for p, v in carried.items() if locked.get(p) != v} == {}


def requires_here(package: str) -> list[str]:
    """What a package needs, as its installed metadata says; nothing for one of other platforms."""
    try:
        return requires(package) or []
    except ModuleNotFoundError:
        return []


IMPORTED = {
    "agent": ("fleet", "quantizer", "workloads", "edge_agent"),
    "coordinator": ("fleet", "quantizer", "workloads", "optimizer", "coordinator"),
}


OPTIONAL = {"opentelemetry", "gymnasium", "stable_baselines3"}
"""The extras `traces` and `learned`: what needs them says so when they are missing."""

ELSEWHERE = {"agent": {"torchmetrics"}, "coordinator": OPTIONAL}
"""What only the other image's part of a shared package imports: rounds are evaluated by the coordinator."""


@pytest.mark.parametrize("image", IMPORTED)
def test_an_image_carries_all_that_its_code_imports_anywhere(image):
    modules = {
        module.partition(".")[0]
        for package in IMPORTED[image]
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for module in imported(node)
    }
    foreign = modules - sys.stdlib_module_names - {*IMPORTED["agent"], *IMPORTED["coordinator"]}
    homes = packages_distributions()
    carried = pinned("deploy/both.txt", f"deploy/{image}.txt").keys() | {"torch"}
    lacking = {m for m in foreign if not carried & {canonicalize_name(d) for d in homes.get(m, ())}}
    assert lacking == ELSEWHERE[image]


def imported(node: ast.AST) -> list[str]:
    """The modules an import statement names, relative ones left out."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
