"""`python -m coordinator.enrolment FOLDER HOST:PORT...`: an authority and a token, before there is a coordinator.

For a testbed whose parts share no folder, such as a swarm: the three files that it writes become secrets. The
coordinator is given `ca.pem` and `ca-key.pem` by WATTBED_CA_CERT and WATTBED_CA_KEY, and the token by
WATTBED_TESTBED_TOKEN; agents are given the token by WATTBED_TOKEN_FILE. HOST:PORT is where they join.
"""

import secrets
import sys
import time
from pathlib import Path

from coordinator.enrolment.authority import open_authority
from coordinator.enrolment.tokens import NAME_BYTES, SECRET_BYTES
from fleet.errors import WattbedError
from fleet.identity import JoinToken
from fleet.tls import host_and_port, write_secret

TOKEN = "token"


def prepare(folder: Path, addresses: tuple[str, ...]) -> tuple[Path, ...]:
    """The files, in `folder`; an authority that is there stays. BadRequest: an address is none."""
    for address in addresses:
        host_and_port(address)
    authority = open_authority(folder, None, None, time.time())
    token = JoinToken(
        authority.sha256, secrets.token_hex(NAME_BYTES), secrets.token_bytes(SECRET_BYTES), addresses
    )
    write_secret(folder / TOKEN, token.text().encode())
    return folder / "ca.pem", folder / "ca-key.pem", folder / TOKEN


if __name__ == "__main__":
    if len(sys.argv) < 3:
        print(f"usage: {__doc__.partition(':')[0].strip('`')} FOLDER HOST:PORT...", file=sys.stderr)
        sys.exit(2)
    try:
        print("\n".join(map(str, prepare(Path(sys.argv[1]), tuple(sys.argv[2:])))))
    except WattbedError as error:
        print(f"coordinator.enrolment: {error}", file=sys.stderr)
        sys.exit(1)
