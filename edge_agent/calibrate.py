"""Calibrates this device: what a second, a step and a megabyte cost it, inside windows of its meter.

Each kind of work is warmed up, then measured in windows that are long enough for every source of joules, then
checked in one of twice as much work. Idle power before and after stands beside everything; what is left
without it is dynamic. A source that could not say in one window says nothing about the row.
"""

import asyncio
import contextlib
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from edge_agent.calibration_rows import Measured, summed_up, without_idle
from edge_agent.client import FleetClient, delays, passes
from edge_agent.energy.meter import DeviceMeter, Window
from edge_agent.work_thread import WorkThread
from fleet.calibration import (
    Calibrate,
    Calibration,
    CalibrationPlan,
    CalibrationProgress,
    CalibrationRow,
    Work,
)
from fleet.domain import AgentMessage, Assignment, Phase
from fleet.errors import WattbedError
from quantizer import encode_to
from quantizer.feedback import encode_with_feedback
from workloads import protocol
from workloads.narrow import cut, parts_of
from workloads.protocol import Shard, Workload

log = logging.getLogger(__name__)

MEGABYTE = 1e6
FIRST_MEGABYTES = 0.125
MOST_MEGABYTES = 500.0
"""Of one transfer: a coordinator takes and gives 1 GiB at most. A fast link has several in a window."""

MOST_UNITS = 1e5
"""A window holds no more: work that takes no time at all would never fill it."""

LONGER = 5
"""How often a window that was too short for a source is made twice as long."""

SHORT_WINDOW = "short_window"


@dataclass(frozen=True)
class Job:
    """One row to measure. `do(units)` does about so many and returns how many it did; `first` is the least."""

    row: CalibrationRow
    phase: Phase
    first: float
    do: Callable[[float], Awaitable[float]]


class Calibrator:
    """Carries calibrations out, one at a time. `report` hears how far it is, on the event loop."""

    def __init__(
        self,
        client: FleetClient,
        device: str,
        state: Path,
        data: Path | None,
        meter: DeviceMeter,
        thread: WorkThread,
        report: Callable[[AgentMessage], None],
    ) -> None:
        self._client = client
        self._device = device
        self._scratch = state / "calibration"
        self._data = data
        self._meter = meter
        self._thread = thread
        self._report = report

    def go_by(self, device: str) -> None:
        """The device has another name now."""
        self._device = device

    async def carry_out(self, order: Calibrate) -> Calibration:
        """Everything the plan asks for. Raises what makes it impossible; a setting that is not is a row."""
        began_at_s, began_s = time.time(), time.monotonic()
        plan = order.plan
        workload, params = await self._thread.run(self._prepare, plan)
        model_bytes = sum(tensor.nbytes for tensor in params.values())
        jobs = tuple(self._jobs(order, workload, params))
        jobs = jobs if plan.budget_s is None else most_needed_first(jobs)
        rows: list[CalibrationRow] = []

        def say(what: str) -> None:
            self._report(CalibrationProgress(order.calibration, len(rows), len(jobs) + 2, what))

        try:
            say(Work.IDLE_BEFORE)
            rows.append(await self._idle(Work.IDLE_BEFORE, plan))
            ends_s = math.inf
            if plan.budget_s is not None:
                with contextlib.suppress(Exception):  # its row will say what is wrong
                    await jobs[0].do(jobs[0].first)  # it pays for imports and compiling, as a round would
                ends_s = time.monotonic() + plan.budget_s
            for job in jobs:
                say(named(job.row))
                rows.append(await self._measure_until(ends_s, job, plan))
            say(Work.IDLE_AFTER)
            await asyncio.sleep(plan.cool_down_s)
            rows.append(await self._idle(Work.IDLE_AFTER, plan))
            say("done")
        finally:
            self._scratch.unlink(missing_ok=True)
        seconds = time.monotonic() - began_s
        found = without_idle(rows)
        return Calibration(order.calibration, self._device, plan, began_at_s, seconds, model_bytes, found)

    def _prepare(self, plan: CalibrationPlan) -> tuple[Workload, dict[str, np.ndarray]]:
        workload = protocol.load(plan.workload, json.loads(plan.options_json), self._data)
        workload.check()
        return workload, workload.initial(plan.seed)

    def _jobs(self, order: Calibrate, workload: Workload, params: dict[str, np.ndarray]) -> Iterator[Job]:
        plan = order.plan
        for precision in plan.precisions:
            for width in plan.widths:
                row = CalibrationRow(Work.TRAIN, 0, width=width, precision=precision)
                held = cut(params, parts_of(workload, width))
                yield Job(row, Phase.TRAIN, 1, self._training(plan, workload, held, row))
        for bits in plan.bits:
            yield Job(
                CalibrationRow(Work.ENCODE, 0, bits=bits), Phase.QUANTIZE, 0, self._encoding(plan, params, bits)
            )

        async def send(megabytes: float) -> float:
            size_bytes = math.ceil(min(megabytes, MOST_MEGABYTES) * MEGABYTE)
            return await self._client.send_filler(self._device, order.calibration, size_bytes) / MEGABYTE

        async def receive(megabytes: float) -> float:
            size_bytes = math.ceil(min(megabytes, MOST_MEGABYTES) * MEGABYTE)
            return await self._client.receive_filler(self._device, order.calibration, size_bytes) / MEGABYTE

        yield Job(CalibrationRow(Work.SEND, 0), Phase.UPLOAD, FIRST_MEGABYTES, send)
        yield Job(CalibrationRow(Work.RECEIVE, 0), Phase.DOWNLOAD, FIRST_MEGABYTES, receive)

    def _training(
        self, plan: CalibrationPlan, workload: Workload, params: dict[str, np.ndarray], row: CalibrationRow
    ) -> Callable[[float], Awaitable[float]]:
        def progress(done: int, loss: float | None) -> None:
            self._thread.stop_if_unwanted()

        async def train(units: float) -> float:
            steps = math.ceil(units)
            task = assignment(plan, self._device, row, steps)
            await self._thread.run(workload.train, params, Shard(0, plan.shards), task, progress)
            return steps

        return train

    def _encoding(
        self, plan: CalibrationPlan, params: dict[str, np.ndarray], bits: int
    ) -> Callable[[float], Awaitable[float]]:
        megabytes = sum(tensor.nbytes for tensor in params.values()) / MEGABYTE

        def encode(times: int) -> None:
            for _ in range(times):
                self._thread.stop_if_unwanted()
                with self._scratch.open("wb") as sink:
                    encode_once(params, bits, plan, sink)

        async def work(units: float) -> float:
            times = max(1, math.ceil(units / megabytes))
            await self._thread.run(encode, times)
            return times * megabytes

        return work

    async def _idle(self, work: Work, plan: CalibrationPlan) -> CalibrationRow:
        async def nothing(seconds: float) -> float:
            await asyncio.sleep(seconds)
            return seconds

        each_s = max(plan.idle_s / plan.repeats, self._window_s(plan))
        job = Job(CalibrationRow(work, 0), Phase.IDLE, each_s, nothing)
        windows = [await self._window(job, each_s, each_s) for _ in range(plan.repeats)]
        return summed_up(job.row, windows, None)

    def _window_s(self, plan: CalibrationPlan) -> float:
        """Long enough for every source there is, and a little more."""
        return max([plan.window_s, *(1.05 * source.min_window_s for source in self._meter.sources)])

    async def _measure_until(self, ends_s: float, job: Job, plan: CalibrationPlan) -> CalibrationRow:
        """The row of `job`, or one that says that there was no time for it. A step that has begun is ended."""
        left_s = ends_s - time.monotonic()
        if left_s > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if math.isinf(left_s) else left_s):
                    return await self._measure(job, plan)
        reason = f"not measured: the {plan.budget_s:g} s that the plan gives were over"
        return replace(job.row, reason=reason, left_out=True)

    async def _measure(self, job: Job, plan: CalibrationPlan) -> CalibrationRow:
        """The row of `job`; one that the connection was cut in is measured anew."""
        for delay in delays():
            try:
                return await self._measured(job, plan)
            except WattbedError as error:
                if not passes(error):
                    return replace(job.row, reason=str(error))
                log.warning("%s: measured anew: %s", named(job.row), error)
            except Exception as error:  # a workload may raise anything
                log.exception("%s cannot be measured", named(job.row))
                return replace(job.row, reason=f"{type(error).__name__}: {error}")
            await asyncio.sleep(delay)
        raise AssertionError("delays end never")

    async def _measured(self, job: Job, plan: CalibrationPlan) -> CalibrationRow:
        window_s = self._window_s(plan)
        units = await _filling(job, window_s)
        warm_s = time.monotonic() + plan.warm_up_s
        while time.monotonic() < warm_s:
            await job.do(units)
        for _ in range(LONGER):
            first = await self._window(job, units, window_s)
            short = any(SHORT_WINDOW in reading.flags for reading in first.window.readings)
            if not short or first.units >= MOST_UNITS:
                break
            window_s, units = 2 * window_s, 2 * units
        windows = [first, *[await self._window(job, units, window_s) for _ in range(plan.repeats - 1)]]
        check = await self._window(job, 2 * units, 2 * window_s)
        return summed_up(job.row, windows, check)

    async def _window(self, job: Job, units: float, least_s: float) -> Measured:
        """One window of the meter: `units` units, again and again until it has lasted `least_s`."""
        windows: list[Window] = []
        with self._meter.phase(job.phase, windows.append):
            began_s = time.monotonic()
            done = await job.do(units)
            while time.monotonic() - began_s < least_s and done < MOST_UNITS:
                done += await job.do(units)
        self._meter.settle()
        return Measured(done, windows[0])


async def _filling(job: Job, window_s: float) -> float:
    """About how many units fill `window_s`. The first ones pay for imports and compiling and are not counted."""
    await job.do(job.first)
    units = job.first
    while True:
        began_s, asked = time.monotonic(), units
        units = await job.do(asked)
        took_s = max(time.monotonic() - began_s, 1e-6)
        if (
            took_s >= window_s / 2 or units >= MOST_UNITS or units < asked
        ):  # less than asked: it does no more at once
            return min(units * max(1.0, window_s / took_s), MOST_UNITS)
        units *= min(max(window_s / took_s, 2.0), 10.0)


def most_needed_first(jobs: Sequence[Job]) -> tuple[Job, ...]:
    """The first of every kind of work before the second of any: a prediction needs one of each."""
    works = [job.row.work for job in jobs]
    ranks = [works[:place].count(work) for place, work in enumerate(works)]
    return tuple(jobs[place] for place in sorted(range(len(jobs)), key=ranks.__getitem__))


def assignment(plan: CalibrationPlan, device: str, row: CalibrationRow, steps: int) -> Assignment:
    """What a workload is asked to train in a calibration: it belongs to no run."""
    return Assignment(
        run="calibration",
        round=0,
        device=device,
        model_sha256="",
        model_bytes=0,
        shard=0,
        bits_up=32,
        bits_down=32,
        precision=row.precision or "",
        width=row.width or 0.0,
        train_steps=steps,
        seed=plan.seed,
        deadline_at_s=math.inf,
    )


def encode_once(params: dict[str, np.ndarray], bits: int, plan: CalibrationPlan, sink: BinaryIO) -> None:
    """What the quantize phase of a round does: the payload to a file, and with error feedback the residual too."""
    if plan.error_feedback and bits < 32:
        _, residual = encode_with_feedback(
            params, params, bits, seed=plan.seed, sink=sink, block_size=plan.block_size
        )
        encode_to(sink, residual, 32, seed=0)
    else:
        encode_to(sink, params, bits, seed=plan.seed, block_size=plan.block_size)


def named(row: CalibrationRow) -> str:
    """A row in words: "train width 0.5 bf16", "encode 8 bits"."""
    width = "" if row.width is None else f" width {row.width:g}"
    precision = "" if row.precision is None else f" {row.precision}"
    bits = "" if row.bits is None else f" {row.bits} bits"
    return f"{row.work}{width}{precision}{bits}"
