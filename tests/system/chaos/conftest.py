import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[3] / "bench"))

from chaos.bed import Bed
from chaos.disks import small_disk

AGENTS = 3


@pytest.fixture(scope="module")
def bed(tmp_path_factory):
    """Three agents, each behind a relay of its own, and a coordinator that has a small disk where one may be mounted."""
    folder = tmp_path_factory.mktemp("chaos")
    with small_disk(folder / "disk") as disk:
        made = Bed(folder, AGENTS, seed=1, state=disk)
        made.start_all()
        yield made
        made.close()
