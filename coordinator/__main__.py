"""`python -m coordinator`: the only place that reads the environment.

WATTBED_LISTEN  host:port for agents and operators   127.0.0.1:50551
WATTBED_HTTP    host:port for /metrics and /sd       127.0.0.1:9464
WATTBED_STATE   folder of the log and the blobs      .wattbed/coordinator
WATTBED_DATA    folder of data sets                  unset: where the system has them
WATTBED_LOG     level of the log on stderr           INFO
"""

import asyncio
import logging
import os
import signal
import sys
from importlib.metadata import version
from pathlib import Path

from coordinator.server import Settings, run
from fleet.errors import WattbedError
from fleet.memory import keep_buffers


async def _serve(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopping.set)
    await run(settings, loop.create_future(), stopping)


def main() -> int:
    """Serves until SIGTERM or SIGINT. Exit code 1: it could not start, and one line says why."""
    keep_buffers()
    data = os.environ.get("WATTBED_DATA")
    settings = Settings(
        listen=os.environ.get("WATTBED_LISTEN", "127.0.0.1:50551"),
        http=os.environ.get("WATTBED_HTTP", "127.0.0.1:9464"),
        state=Path(os.environ.get("WATTBED_STATE", ".wattbed/coordinator")),
        data=Path(data) if data else None,
        version=version("wattbed"),
    )
    logging.basicConfig(
        level=os.environ.get("WATTBED_LOG", "INFO"), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        asyncio.run(_serve(settings))
    except WattbedError as error:
        print(f"coordinator: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
