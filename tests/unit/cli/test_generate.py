"""`wattbed generate` and the report of requests, against an Operator service that answers as a test says."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.generate import demand, recipe, seconds
from fleet import wire
from fleet.domain import EnergyReading, Origin, Phase, Quality
from fleet.errors import BadRequest
from fleet.generation import (
    Expected,
    Feasible,
    GenerationProgress,
    PhaseJoules,
    Placement,
    Preview,
    Recipe,
    RequestReport,
)
from fleet.images import pack
from fleet.v1 import operator_pb2

IMAGES = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 1), np.uint8)
PAYLOAD = pack(IMAGES)
DIGEST = hashlib.sha256(PAYLOAD).hexdigest()
PLACED = Placement(
    *("agent-1", "b1", Recipe((1.0, 0.25, 0.25), "ddim"), 1, 0.0, 1.0),
    Expected(2.0, 0.5, 19.0, "fid", Origin.FITTED, 12, "constant power"),
)


def served(asked):
    reading = EnergyReading("rapl:package-0", "cpu", "package", Quality.DERIVED, 3.0, flags=("share_of_batch",))
    return RequestReport(
        asked, "served", 0.0, None, "a" * 64, 1.25, placement=PLACED,
        phases=(PhaseJoules(Phase.GENERATE, 0.5, (reading,)),), digest=DIGEST, size_bytes=len(PAYLOAD), complete=True,
    )  # fmt: skip


def answers(asked):
    yield operator_pb2.GenerateResponse(placed=wire.to_proto(PLACED))
    shown = GenerationProgress("b1", 1, 3, (Preview(asked.request, b"a preview"),))
    yield operator_pb2.GenerateResponse(progress=wire.to_proto(shown))
    yield operator_pb2.GenerateResponse(images=wire.to_proto(served(asked)))
    yield operator_pb2.GenerateResponse(done=wire.to_proto(served(asked)))


@pytest.fixture
def generating(operator):
    operator.generation, operator.blobs[DIGEST] = answers, PAYLOAD
    return operator


def test_images_previews_and_a_manifest_with_joules_and_predictions_are_written(generating, wattbed):
    said = wattbed("generate", "latest", "--n", "3", "--quality", "fid<=20", "--within", "5s", "-o", "out")
    manifest = json.loads(Path("out/manifest.json").read_text())
    first = np.asarray(Image.open("out/image-000.png"))
    (asked,) = generating.asked
    assert (said.code, (first == IMAGES[0, ..., 0]).all()) == (0, True)
    assert Path("out/preview-001.png").read_bytes() == b"a preview"
    assert (asked.run, asked.within_s, asked.quality.at_most) == ("demo-1", 5.0, 20.0)
    assert manifest["totals"][0]["joules"] == 3.0
    assert manifest["totals"][0]["quality"] == "derived"
    assert manifest["placement"]["expected"]["joules"] == 2.0
    assert len(manifest["noise_seeds"]) == len([f for f in manifest["files"] if "image" in f]) == 3
    assert "3 J derived at package scope" in said.out


def test_a_coordinator_that_was_killed_is_asked_again_for_the_same_request(generating, wattbed):
    generating.cut_generation = True
    said = wattbed("generate", "latest", "--n", "3", "--steps", "3", "-o", "out", "--json")
    first, again = generating.asked
    assert (said.code, first) == (0, again)


def test_a_refused_request_says_what_would_be_feasible_and_writes_nothing(operator, wattbed):
    def refuse(asked):
        report = RequestReport(
            asked, "refused", 0.0, reason="deadline: none is free", feasible=Feasible(within_s=9.1, at_most=24.0)
        )
        yield operator_pb2.GenerateResponse(done=wire.to_proto(report))

    operator.generation = refuse
    said = wattbed("generate", "latest", "--quality", "fid<=20", "--within", "1s", "-o", "out")
    assert (said.code, Path("out").exists()) == (1, False)
    assert "the same within 9.10 s, or fid<=24" in said.err


@pytest.mark.parametrize("options", [["--quality", "fid"], ["--within", "soon"], ["--width", "wide"],
                                     ["--steps", "3", "--width", "1,0.5"], ["--quality", "fid<=2", "--steps", "3"]])  # fmt: skip
def test_what_cannot_be_meant_is_wrong_use(wattbed, options):
    assert wattbed("generate", "latest", *options).code == 2


def test_times_demands_and_recipes_are_read_as_they_are_written():
    assert [seconds(t) for t in ("5s", "500ms", "2m", "1.5")] == [5.0, 0.5, 120.0, 1.5]
    assert demand("error <= 3e1").at_most == 30.0
    assert recipe(None, None, None, None) is None
    assert recipe(2, "0.5", "dpm++", 8) == Recipe((0.5, 0.5), "dpm++", 8)
    with pytest.raises(BadRequest):
        demand("fid<20")


def test_the_report_has_a_row_per_request_and_a_grid_by_width_and_steps(generating, wattbed):
    wattbed("generate", "latest", "--n", "3", "-o", "out")
    late = replace(served(generating.asked[0]), late=True)
    generating.requests = [served(generating.asked[0]), late]
    page = wattbed("report", "latest", "-o", "report")
    html = Path("report/report.html").read_text()
    values = json.loads(Path("report/report.json").read_text())
    shown = wattbed("report", "latest")
    assert page.code == 0
    assert "width 0.61, 3 steps of ddim" in html
    assert [r["status"] for r in values["requests"]] == ["served", "served"]
    assert "served late" in shown.out
