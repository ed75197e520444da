"""The logs of a testbed, those of several parts as one stream."""

import queue
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cli.engine import Client, Container, DockerException
from cli.local import Running
from cli.parts import SERVICE, containers
from fleet.errors import BadRequest

POLL_S = 0.2


@dataclass(frozen=True)
class Line:
    """One line. `at` is the engine's time in RFC 3339, empty where the line has none."""

    part: str
    text: str
    at: str = ""


def of_project(
    client: Client, project: str, services: Sequence[str], tail: int | None, *, follow: bool
) -> Iterator[Line]:
    """The lines of a compose testbed, in the order of their time, the last `tail` of each container.

    `follow` goes on until every container has ended. BadRequest lists the services if one is unknown.
    """
    found = containers(client, project)
    if not found:
        raise BadRequest(f"no testbed of project {project!r} is here; `wattbed up` starts one")
    known = sorted({c.labels.get(SERVICE, c.name) for c in found})
    if unknown := [s for s in services if s not in known and s not in {c.name for c in found}]:
        raise BadRequest(f"no service {', '.join(unknown)} in project {project!r}; there are {', '.join(known)}")
    chosen = [c for c in found if not services or c.labels.get(SERVICE) in services or c.name in services]
    prefix = f"{project}-"
    if not follow:
        lines = [
            line for c in chosen for line in _split(c.name.removeprefix(prefix), _chunks(c, tail, follow=False))
        ]
        return iter(sorted(lines, key=lambda line: line.at))
    return _together([(c.name.removeprefix(prefix), c) for c in chosen], tail)


def _chunks(container: Container, tail: int | None, *, follow: bool) -> Iterable[bytes]:
    options = {"timestamps": True, "tail": "all" if tail is None else tail}
    if follow:
        chunks: Iterable[bytes] = container.logs(stream=True, follow=True, **options)
        return chunks
    return [container.logs(**options)]


def _split(part: str, chunks: Iterable[bytes]) -> Iterator[Line]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (_line(part, one) for one in whole)
    if rest:
        yield _line(part, rest)


def _line(part: str, raw: bytes) -> Line:
    at, _, text = raw.decode("utf-8", "replace").rstrip("\r").partition(" ")
    return Line(part, text, at)


def _together(chosen: Sequence[tuple[str, Container]], tail: int | None) -> Iterator[Line]:
    heard: queue.SimpleQueue[Line | None] = queue.SimpleQueue()

    def listen(part: str, container: Container) -> None:
        try:
            for line in _split(part, _chunks(container, tail, follow=True)):
                heard.put(line)
        except DockerException as error:
            heard.put(Line(part, f"the log ended: {error}"))
        finally:
            heard.put(None)

    for one in chosen:
        threading.Thread(target=listen, args=one, daemon=True).start()
    open_logs = len(chosen)
    while open_logs:
        line = heard.get()
        if line is None:
            open_logs -= 1
        else:
            yield line


def of_processes(
    processes: Sequence[Running], names: Sequence[str], tail: int | None, *, follow: bool
) -> Iterator[Line]:
    """The lines of a local testbed, one process after the other, then what is added while any of them runs."""
    known = {p.name: p for p in processes}
    if unknown := [n for n in names if n not in known]:
        raise BadRequest(f"no process {', '.join(unknown)} in this testbed; there are {', '.join(known)}")
    chosen = [p for n, p in known.items() if not names or n in names]
    files = [(p, open(p.log, encoding="utf-8", errors="replace")) for p in chosen]  # noqa: SIM115
    try:
        for process, file in files:
            yield from (Line(process.name, text.rstrip("\n")) for text in deque(file, maxlen=tail))
        running = follow
        while running:
            running = any(p.process() is not None for p, _ in files)
            for process, file in files:
                yield from (Line(process.name, text.rstrip("\n")) for text in file)
            if running:
                time.sleep(POLL_S)
    finally:
        for _, file in files:
            file.close()
