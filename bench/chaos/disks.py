"""A small disk of its own for the coordinator: one that gets full, and one that turns read-only. Needs root."""

import asyncio
import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chaos.faults import Fault, Hand

SIZE = "24m"
BALLAST = "ballast"
ENDS_WITHIN_S = 60.0


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A tmpfs of SIZE mounted at `folder`; None where this user may not mount."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=False)


async def disk_full(hand: Hand) -> None:
    """Every byte of the coordinator's disk is taken, and after a while given back."""
    ballast = hand.bed.state / BALLAST
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 12))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    await hand.hold(0.3, 4.0)
    ballast.unlink()


async def disk_read_only(hand: Hand) -> None:
    """The coordinator is killed and its disk turns read-only: the next one must end at once and say why."""
    hand.bed.kill("coordinator")
    _remount(hand.bed.state, "ro")
    hand.bed.start_coordinator()
    process = hand.bed.process("coordinator")
    code = await asyncio.to_thread(process.wait, ENDS_WITHIN_S)
    last = hand.bed.said("coordinator").splitlines()[-1]
    if code in (0, None) or not last.startswith("coordinator: "):
        hand.hurt.broken.append(f"on a read-only disk the coordinator ended with {code}, saying {last!r}")
    _remount(hand.bed.state, "rw")
    hand.bed.start_coordinator()


def _remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", folder], check=True)


AS_ROOT: dict[str, Fault] = {
    "coordinator: disk full": disk_full,
    "coordinator: disk read-only at a restart": disk_read_only,
}
