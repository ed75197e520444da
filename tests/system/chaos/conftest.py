import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[3] / "bench"))

from chaos.bed import Bed

AGENTS = 3


@pytest.fixture
def bed(tmp_path):
    """Three agents, each behind a relay of its own, and a coordinator; nothing runs yet."""
    made = Bed(tmp_path, AGENTS, seed=1)
    yield made
    made.close()
