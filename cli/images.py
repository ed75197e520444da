"""Images that a testbed needs: those that are here, and getting the others."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cli.compose import GRAFANA, Compose, Service, Stack
from cli.engine import Client, DockerException, NotFound, refused
from fleet.errors import Unequipped

REVISION = "org.opencontainers.image.revision"


@dataclass(frozen=True)
class Image:
    """An image that is here: its size, and the commit it was built from if it says so."""

    size_bytes: int
    revision: str | None


def look(client: Client, name: str) -> Image | None:
    """The image of this name, None where it is not here."""
    try:
        found = client.images.get(name)
    except NotFound:
        return None
    except DockerException as error:
        raise refused(error, f"look for image {name}") from None
    labels = found.attrs.get("Config", {}).get("Labels") or {}
    return Image(int(found.attrs["Size"]), labels.get(REVISION))


def provide(
    client: Client,
    compose: Compose,
    stack: Stack,
    services: Sequence[Service],
    build: bool | None,
    say: Callable[[str], None],
) -> None:
    """Sees to it that the image of every service is here, by building or pulling what is not.

    `build` True builds what can be built anew, False builds nothing, None what is missing.
    Unequipped names the images that could not be had.
    """
    builders = {s.image: s.name for s in stack.services.values() if s.builds}
    wanted = list(dict.fromkeys(s.image for s in services))
    missing = [name for name in wanted if look(client, name) is None]
    to_build = [n for n in wanted if n in builders and (build or n in missing)]
    if build is False and (left := [n for n in to_build if n in missing]):
        raise Unequipped(f"{_list(left)} not here, and --no-build forbids to build: leave it out")
    if to_build and build is not False:
        say(f"building {', '.join(to_build)}")
        compose.build([builders[n] for n in to_build], say)
    failed = {n: why for n in missing if n not in builders and (why := _pull(client, n, say))}
    if failed:
        raise cannot_pull(failed, services)


def _pull(client: Client, name: str, say: Callable[[str], None]) -> str:
    say(f"pulling {name}")
    try:
        for line in client.api.pull(name, stream=True, decode=True):
            if "error" in line:
                return str(line["error"])
    except DockerException as error:
        return " ".join(str(getattr(error, "explanation", None) or error).split())
    return ""


def cannot_pull(failed: dict[str, str], services: Iterable[Service]) -> Unequipped:
    """The error for images that could not be pulled; the testbed does without Grafana."""
    users = [s.name for s in services if s.image in failed]
    why = next(iter(failed.values())).rstrip(".")
    message = f"{_list(list(failed))} not here and cannot be pulled ({why})"
    if users == [GRAFANA]:
        message += f": `wattbed up --without {GRAFANA}` starts everything else"
    return Unequipped(message)


def _list(names: Sequence[str]) -> str:
    return f"image {names[0]} is" if len(names) == 1 else f"images {', '.join(names)} are"
