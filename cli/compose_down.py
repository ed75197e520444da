"""Taking a compose testbed down, whatever is left of it: by its label, without the compose file."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cli.engine import Client, Container, DockerException, NotFound, Things
from cli.parts import PROJECT, SERVICE, containers
from fleet.errors import WattbedError

DEPENDS_ON = "com.docker.compose.depends_on"
GRACE_S = 10


@dataclass(frozen=True)
class Ended:
    """What was taken down, by name."""

    containers: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()


def down(client: Client, project: str, *, purge: bool, grace_s: int = GRACE_S) -> Ended:
    """Ends and removes the containers and networks of a project, with `purge` its volumes too.

    WattbedError names what the engine would not give up; everything else is gone then.
    """
    ended: list[str] = []
    left: list[str] = []
    for wave in waves(containers(client, project)):
        with ThreadPoolExecutor(len(wave)) as pool:
            for container, why in zip(wave, pool.map(lambda c: _remove(c, grace_s), wave), strict=True):
                (left if why else ended).append(f"{container.name} ({why})" if why else container.name)
    networks, kept = _remove_all(client.networks, project, "network")
    volumes: list[str] = []
    if purge:
        volumes, kept_volumes = _remove_all(client.volumes, project, "volume")
        kept += kept_volumes
    if left + kept:
        raise WattbedError(f"the Docker engine would not remove {', '.join(left + kept)}")
    return Ended(tuple(ended), tuple(networks), tuple(volumes))


def waves(found: list[Container]) -> Iterator[list[Container]]:
    """The containers in groups, each before those that it depends on."""
    left = list(found)
    while left:
        needed = {name for c in left for name in _needs(c)}
        free = [c for c in left if c.labels.get(SERVICE) not in needed] or left
        yield free
        left = [c for c in left if c not in free]


def _needs(container: Container) -> set[str]:
    label = container.labels.get(DEPENDS_ON, "")
    return {word.partition(":")[0] for word in label.split(",") if word} - {container.labels.get(SERVICE, "")}


def _remove(container: Container, grace_s: int) -> str:
    """Why the container is still there, empty when it is gone."""
    try:
        container.stop(timeout=grace_s)
        container.remove(force=True, v=True)
    except NotFound:
        return ""
    except DockerException as error:
        return _why(error)
    return ""


def _remove_all(things: Things, project: str, what: str) -> tuple[list[str], list[str]]:
    gone, kept = [], []
    for thing in things.list(filters={"label": f"{PROJECT}={project}"}):
        try:
            thing.remove()
        except NotFound:
            continue
        except DockerException as error:
            kept.append(f"{what} {thing.name} ({_why(error)})")
        else:
            gone.append(str(thing.name))
    return gone, kept


def _why(error: Exception) -> str:
    return " ".join(str(getattr(error, "explanation", None) or error).split())
