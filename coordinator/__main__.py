"""`python -m coordinator`: the only place that reads the environment.

WATTBED_LISTEN  host:port for agents and operators   127.0.0.1:50551
WATTBED_HTTP    host:port for /metrics and /sd       127.0.0.1:9464
WATTBED_STATE   folder of the log and the blobs      .wattbed/coordinator
WATTBED_DATA    folder of data sets                  unset: where the system has them
WATTBED_LOG_LEVEL, WATTBED_LOG_FORMAT, WATTBED_LOG_FILE   how this process logs (fleet/logs.py)
WATTBED_OTLP    where traces go, http://host:4317    unset: nowhere (or OTEL_EXPORTER_OTLP_ENDPOINT)

Who may come (docs/security.md):

WATTBED_TLS            auto, on or off               auto: on, unless WATTBED_LISTEN is on loopback
WATTBED_JOIN           host:port for new devices     the host of WATTBED_LISTEN, and its port + 1
WATTBED_NAMES          names this is reached by, with commas between them; the machine's own come by themselves
WATTBED_PUBLISHED      FLEET/JOIN, the two ports as others see them, where another machine passes them on
WATTBED_CA_CERT, WATTBED_CA_KEY   files of an authority (PEM); without them one is made in the folder of the state
WATTBED_TESTBED_TOKEN  a file to keep a join token in, for agents of a testbed that may read it
WATTBED_CERTIFICATE_S  seconds that a device's certificate lives   604800
"""

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

# Before gRPC is there: at its usual level it reports each visitor without a certificate.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

from coordinator import tracing
from coordinator.effects import THREADS
from coordinator.enrolment.door import DEVICE_LIVES_S, Security
from coordinator.server import Settings, run
from fleet import logs
from fleet.errors import BadRequest, WattbedError
from fleet.memory import keep_buffers

IDLE_THREAD_S = 0.2
"""A thread that computes nothing has ended by then."""


async def _serve(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopping.set)
    await run(settings, loop.create_future(), stopping)


def security(environ: Mapping[str, str]) -> Security:
    """What the environment says about who may come; BadRequest names what is wrong."""

    def path(name: str) -> Path | None:
        return Path(environ[name]) if environ.get(name) else None

    seen = environ.get("WATTBED_PUBLISHED", "")
    fleet, _, joining = seen.partition("/")
    if seen and not (fleet.isdecimal() and joining.isdecimal()):
        raise BadRequest(f"WATTBED_PUBLISHED = {seen!r}: not two ports, such as 50551/50552")
    lives = environ.get("WATTBED_CERTIFICATE_S", str(DEVICE_LIVES_S))
    try:
        lives_s = float(lives)
    except ValueError:
        raise BadRequest(f"WATTBED_CERTIFICATE_S = {lives!r}: not a number of seconds") from None
    return Security(
        tls=environ.get("WATTBED_TLS") or "auto",
        join=environ.get("WATTBED_JOIN") or None,
        names=tuple(name.strip() for name in environ.get("WATTBED_NAMES", "").split(",") if name.strip()),
        published=(int(fleet), int(joining)) if seen else None,
        authority_certificate=path("WATTBED_CA_CERT"),
        authority_key=path("WATTBED_CA_KEY"),
        testbed_token=path("WATTBED_TESTBED_TOKEN"),
        device_lives_s=lives_s,
    )


def main() -> int:
    """Serves until SIGTERM or SIGINT. Exit code 1: it could not start, and one line says why."""
    keep_buffers()
    data = os.environ.get("WATTBED_DATA")
    try:
        secured = security(os.environ)
        logs.set_up(logs.settings(os.environ))
        tracer = tracing.from_environment(os.environ)
    except WattbedError as error:
        print(f"coordinator: {error}", file=sys.stderr)
        return 1
    settings = Settings(
        listen=os.environ.get("WATTBED_LISTEN", "127.0.0.1:50551"),
        http=os.environ.get("WATTBED_HTTP", "127.0.0.1:9464"),
        state=Path(os.environ.get("WATTBED_STATE", ".wattbed/coordinator")),
        data=Path(data) if data else None,
        version=version("wattbed"),
        security=secured,
        tracer=tracer,
    )
    try:
        asyncio.run(_serve(settings))
    except (WattbedError, OSError) as error:
        print(f"coordinator: {error}", file=sys.stderr)
        return 1
    _leave_what_computes()
    return 0


def _leave_what_computes() -> None:
    """Ends the process although a thread may still aggregate or evaluate: all that counts is on the disk."""
    for thread in threading.enumerate():
        if thread.name.startswith(THREADS):
            thread.join(IDLE_THREAD_S)
            if thread.is_alive():
                logging.shutdown()
                os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
