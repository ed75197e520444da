from fleet.v1 import fleet_pb2 as _fleet_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StartRunRequest(_message.Message):
    __slots__ = ("experiment_json", "idempotency_key")
    EXPERIMENT_JSON_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    experiment_json: str
    idempotency_key: str
    def __init__(self, experiment_json: _Optional[str] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class StartRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class StopRunRequest(_message.Message):
    __slots__ = ("run", "reason")
    RUN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    run: str
    reason: str
    def __init__(self, run: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class StopRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: RunSummary
    def __init__(self, run: _Optional[_Union[RunSummary, _Mapping]] = ...) -> None: ...

class ListRunsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListRunsResponse(_message.Message):
    __slots__ = ("runs",)
    RUNS_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedCompositeFieldContainer[RunSummary]
    def __init__(self, runs: _Optional[_Iterable[_Union[RunSummary, _Mapping]]] = ...) -> None: ...

class RunSummary(_message.Message):
    __slots__ = ("run", "experiment", "phase", "round", "rounds", "started_at_s", "ended_at_s", "reason", "devices")
    RUN_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_S_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_S_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    run: str
    experiment: str
    phase: str
    round: int
    rounds: int
    started_at_s: float
    ended_at_s: float
    reason: str
    devices: int
    def __init__(self, run: _Optional[str] = ..., experiment: _Optional[str] = ..., phase: _Optional[str] = ..., round: _Optional[int] = ..., rounds: _Optional[int] = ..., started_at_s: _Optional[float] = ..., ended_at_s: _Optional[float] = ..., reason: _Optional[str] = ..., devices: _Optional[int] = ...) -> None: ...

class WatchRunRequest(_message.Message):
    __slots__ = ("run", "after_seq")
    RUN_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQ_FIELD_NUMBER: _ClassVar[int]
    run: str
    after_seq: int
    def __init__(self, run: _Optional[str] = ..., after_seq: _Optional[int] = ...) -> None: ...

class WatchRunResponse(_message.Message):
    __slots__ = ("event", "progress")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    event: LoggedEvent
    progress: DeviceProgress
    def __init__(self, event: _Optional[_Union[LoggedEvent, _Mapping]] = ..., progress: _Optional[_Union[DeviceProgress, _Mapping]] = ...) -> None: ...

class LoggedEvent(_message.Message):
    __slots__ = ("seq", "at_s", "kind", "json")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    AT_S_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    seq: int
    at_s: float
    kind: str
    json: str
    def __init__(self, seq: _Optional[int] = ..., at_s: _Optional[float] = ..., kind: _Optional[str] = ..., json: _Optional[str] = ...) -> None: ...

class DeviceProgress(_message.Message):
    __slots__ = ("device", "progress")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    device: str
    progress: _fleet_pb2.Progress
    def __init__(self, device: _Optional[str] = ..., progress: _Optional[_Union[_fleet_pb2.Progress, _Mapping]] = ...) -> None: ...

class ListDevicesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListDevicesResponse(_message.Message):
    __slots__ = ("devices",)
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    devices: _containers.RepeatedCompositeFieldContainer[DeviceSummary]
    def __init__(self, devices: _Optional[_Iterable[_Union[DeviceSummary, _Mapping]]] = ...) -> None: ...

class DeviceSummary(_message.Message):
    __slots__ = ("device", "capabilities", "attached", "changed_at_s", "metrics_address", "power", "run", "round", "calibrating", "enrolled", "clock_skew_s", "drained")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    ATTACHED_FIELD_NUMBER: _ClassVar[int]
    CHANGED_AT_S_FIELD_NUMBER: _ClassVar[int]
    METRICS_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    POWER_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    CALIBRATING_FIELD_NUMBER: _ClassVar[int]
    ENROLLED_FIELD_NUMBER: _ClassVar[int]
    CLOCK_SKEW_S_FIELD_NUMBER: _ClassVar[int]
    DRAINED_FIELD_NUMBER: _ClassVar[int]
    device: str
    capabilities: _fleet_pb2.Capabilities
    attached: bool
    changed_at_s: float
    metrics_address: str
    power: _containers.RepeatedCompositeFieldContainer[_fleet_pb2.Power]
    run: str
    round: int
    calibrating: bool
    enrolled: Enrolled
    clock_skew_s: float
    drained: bool
    def __init__(self, device: _Optional[str] = ..., capabilities: _Optional[_Union[_fleet_pb2.Capabilities, _Mapping]] = ..., attached: _Optional[bool] = ..., changed_at_s: _Optional[float] = ..., metrics_address: _Optional[str] = ..., power: _Optional[_Iterable[_Union[_fleet_pb2.Power, _Mapping]]] = ..., run: _Optional[str] = ..., round: _Optional[int] = ..., calibrating: _Optional[bool] = ..., enrolled: _Optional[_Union[Enrolled, _Mapping]] = ..., clock_skew_s: _Optional[float] = ..., drained: _Optional[bool] = ...) -> None: ...

class Enrolled(_message.Message):
    __slots__ = ("at_s", "token", "key_sha256", "expires_at_s", "revoked_at_s", "reason", "formerly", "kind")
    AT_S_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    KEY_SHA256_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_S_FIELD_NUMBER: _ClassVar[int]
    REVOKED_AT_S_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FORMERLY_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    at_s: float
    token: str
    key_sha256: str
    expires_at_s: float
    revoked_at_s: float
    reason: str
    formerly: _containers.RepeatedScalarFieldContainer[str]
    kind: str
    def __init__(self, at_s: _Optional[float] = ..., token: _Optional[str] = ..., key_sha256: _Optional[str] = ..., expires_at_s: _Optional[float] = ..., revoked_at_s: _Optional[float] = ..., reason: _Optional[str] = ..., formerly: _Optional[_Iterable[str]] = ..., kind: _Optional[str] = ...) -> None: ...

class TokenSummary(_message.Message):
    __slots__ = ("token", "kind", "uses", "used", "created_at_s", "expires_at_s", "withdrawn")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    USES_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_S_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_S_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_FIELD_NUMBER: _ClassVar[int]
    token: str
    kind: str
    uses: int
    used: int
    created_at_s: float
    expires_at_s: float
    withdrawn: bool
    def __init__(self, token: _Optional[str] = ..., kind: _Optional[str] = ..., uses: _Optional[int] = ..., used: _Optional[int] = ..., created_at_s: _Optional[float] = ..., expires_at_s: _Optional[float] = ..., withdrawn: _Optional[bool] = ...) -> None: ...

class CalibrateRequest(_message.Message):
    __slots__ = ("device", "calibration", "plan")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    device: str
    calibration: str
    plan: _fleet_pb2.CalibrationPlan
    def __init__(self, device: _Optional[str] = ..., calibration: _Optional[str] = ..., plan: _Optional[_Union[_fleet_pb2.CalibrationPlan, _Mapping]] = ...) -> None: ...

class CalibrateResponse(_message.Message):
    __slots__ = ("progress", "calibration")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    progress: _fleet_pb2.CalibrationProgress
    calibration: _fleet_pb2.Calibration
    def __init__(self, progress: _Optional[_Union[_fleet_pb2.CalibrationProgress, _Mapping]] = ..., calibration: _Optional[_Union[_fleet_pb2.Calibration, _Mapping]] = ...) -> None: ...

class GetCalibrationsRequest(_message.Message):
    __slots__ = ("device",)
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    device: str
    def __init__(self, device: _Optional[str] = ...) -> None: ...

class GetCalibrationsResponse(_message.Message):
    __slots__ = ("calibrations",)
    CALIBRATIONS_FIELD_NUMBER: _ClassVar[int]
    calibrations: _containers.RepeatedCompositeFieldContainer[_fleet_pb2.Calibration]
    def __init__(self, calibrations: _Optional[_Iterable[_Union[_fleet_pb2.Calibration, _Mapping]]] = ...) -> None: ...

class GetReportRequest(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class RunReport(_message.Message):
    __slots__ = ("run", "experiment_json", "rounds", "equipment")
    RUN_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_JSON_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    EQUIPMENT_FIELD_NUMBER: _ClassVar[int]
    run: RunSummary
    experiment_json: str
    rounds: _containers.RepeatedCompositeFieldContainer[RoundReport]
    equipment: _containers.RepeatedCompositeFieldContainer[Equipment]
    def __init__(self, run: _Optional[_Union[RunSummary, _Mapping]] = ..., experiment_json: _Optional[str] = ..., rounds: _Optional[_Iterable[_Union[RoundReport, _Mapping]]] = ..., equipment: _Optional[_Iterable[_Union[Equipment, _Mapping]]] = ...) -> None: ...

class Equipment(_message.Message):
    __slots__ = ("device", "capabilities")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    device: str
    capabilities: _fleet_pb2.Capabilities
    def __init__(self, device: _Optional[str] = ..., capabilities: _Optional[_Union[_fleet_pb2.Capabilities, _Mapping]] = ...) -> None: ...

class RoundReport(_message.Message):
    __slots__ = ("round", "status", "reason", "opened_at_s", "closed_at_s", "seconds", "model_sha256", "model_bytes", "metrics", "grid_sha256", "devices")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    OPENED_AT_S_FIELD_NUMBER: _ClassVar[int]
    CLOSED_AT_S_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    MODEL_SHA256_FIELD_NUMBER: _ClassVar[int]
    MODEL_BYTES_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    GRID_SHA256_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    round: int
    status: str
    reason: str
    opened_at_s: float
    closed_at_s: float
    seconds: float
    model_sha256: str
    model_bytes: int
    metrics: _containers.RepeatedCompositeFieldContainer[Metric]
    grid_sha256: str
    devices: _containers.RepeatedCompositeFieldContainer[DeviceReport]
    def __init__(self, round: _Optional[int] = ..., status: _Optional[str] = ..., reason: _Optional[str] = ..., opened_at_s: _Optional[float] = ..., closed_at_s: _Optional[float] = ..., seconds: _Optional[float] = ..., model_sha256: _Optional[str] = ..., model_bytes: _Optional[int] = ..., metrics: _Optional[_Iterable[_Union[Metric, _Mapping]]] = ..., grid_sha256: _Optional[str] = ..., devices: _Optional[_Iterable[_Union[DeviceReport, _Mapping]]] = ...) -> None: ...

class Metric(_message.Message):
    __slots__ = ("name", "value", "detail")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: float
    detail: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[float] = ..., detail: _Optional[str] = ...) -> None: ...

class DeviceReport(_message.Message):
    __slots__ = ("device", "kind", "status", "bits_up", "bits_down", "precision", "width", "train_steps", "samples", "loss", "update_bytes", "wire_up_bytes", "wire_down_bytes", "predicted", "phases", "reason", "update_range", "note")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    BITS_UP_FIELD_NUMBER: _ClassVar[int]
    BITS_DOWN_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    TRAIN_STEPS_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    UPDATE_BYTES_FIELD_NUMBER: _ClassVar[int]
    WIRE_UP_BYTES_FIELD_NUMBER: _ClassVar[int]
    WIRE_DOWN_BYTES_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_FIELD_NUMBER: _ClassVar[int]
    PHASES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    UPDATE_RANGE_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    device: str
    kind: str
    status: str
    bits_up: int
    bits_down: int
    precision: str
    width: float
    train_steps: int
    samples: int
    loss: float
    update_bytes: int
    wire_up_bytes: int
    wire_down_bytes: int
    predicted: _fleet_pb2.Prediction
    phases: _containers.RepeatedCompositeFieldContainer[PhaseReport]
    reason: str
    update_range: float
    note: str
    def __init__(self, device: _Optional[str] = ..., kind: _Optional[str] = ..., status: _Optional[str] = ..., bits_up: _Optional[int] = ..., bits_down: _Optional[int] = ..., precision: _Optional[str] = ..., width: _Optional[float] = ..., train_steps: _Optional[int] = ..., samples: _Optional[int] = ..., loss: _Optional[float] = ..., update_bytes: _Optional[int] = ..., wire_up_bytes: _Optional[int] = ..., wire_down_bytes: _Optional[int] = ..., predicted: _Optional[_Union[_fleet_pb2.Prediction, _Mapping]] = ..., phases: _Optional[_Iterable[_Union[PhaseReport, _Mapping]]] = ..., reason: _Optional[str] = ..., update_range: _Optional[float] = ..., note: _Optional[str] = ...) -> None: ...

class PhaseReport(_message.Message):
    __slots__ = ("phase", "seconds", "windows", "readings", "levers")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    READINGS_FIELD_NUMBER: _ClassVar[int]
    LEVERS_FIELD_NUMBER: _ClassVar[int]
    phase: str
    seconds: float
    windows: int
    readings: _containers.RepeatedCompositeFieldContainer[_fleet_pb2.EnergyReading]
    levers: _containers.RepeatedCompositeFieldContainer[_fleet_pb2.LeverOutcome]
    def __init__(self, phase: _Optional[str] = ..., seconds: _Optional[float] = ..., windows: _Optional[int] = ..., readings: _Optional[_Iterable[_Union[_fleet_pb2.EnergyReading, _Mapping]]] = ..., levers: _Optional[_Iterable[_Union[_fleet_pb2.LeverOutcome, _Mapping]]] = ...) -> None: ...

class ReplayRunRequest(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class ReplayRunResponse(_message.Message):
    __slots__ = ("events", "same_state", "state_sha256", "run")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    SAME_STATE_FIELD_NUMBER: _ClassVar[int]
    STATE_SHA256_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    events: int
    same_state: bool
    state_sha256: str
    run: RunSummary
    def __init__(self, events: _Optional[int] = ..., same_state: _Optional[bool] = ..., state_sha256: _Optional[str] = ..., run: _Optional[_Union[RunSummary, _Mapping]] = ...) -> None: ...

class GetArtifactRequest(_message.Message):
    __slots__ = ("run", "sha256")
    RUN_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    run: str
    sha256: str
    def __init__(self, run: _Optional[str] = ..., sha256: _Optional[str] = ...) -> None: ...

class GenerateRequest(_message.Message):
    __slots__ = ("request",)
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request: GenerationRequest
    def __init__(self, request: _Optional[_Union[GenerationRequest, _Mapping]] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("placed", "progress", "images", "done")
    PLACED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    placed: Placement
    progress: _fleet_pb2.GenerationProgress
    images: RequestReport
    done: RequestReport
    def __init__(self, placed: _Optional[_Union[Placement, _Mapping]] = ..., progress: _Optional[_Union[_fleet_pb2.GenerationProgress, _Mapping]] = ..., images: _Optional[_Union[RequestReport, _Mapping]] = ..., done: _Optional[_Union[RequestReport, _Mapping]] = ...) -> None: ...

class CancelRequestRequest(_message.Message):
    __slots__ = ("request", "reason")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    request: str
    reason: str
    def __init__(self, request: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class CancelRequestResponse(_message.Message):
    __slots__ = ("report",)
    REPORT_FIELD_NUMBER: _ClassVar[int]
    report: RequestReport
    def __init__(self, report: _Optional[_Union[RequestReport, _Mapping]] = ...) -> None: ...

class ListRequestsRequest(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class Demand(_message.Message):
    __slots__ = ("metric", "at_most")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    AT_MOST_FIELD_NUMBER: _ClassVar[int]
    metric: str
    at_most: float
    def __init__(self, metric: _Optional[str] = ..., at_most: _Optional[float] = ...) -> None: ...

class GenerationRequest(_message.Message):
    __slots__ = ("request", "run", "images", "seed", "within_s", "quality", "priority", "origin", "where", "device", "recipe", "previews")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    WITHIN_S_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    WHERE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    PREVIEWS_FIELD_NUMBER: _ClassVar[int]
    request: str
    run: str
    images: int
    seed: int
    within_s: float
    quality: Demand
    priority: int
    origin: str
    where: str
    device: str
    recipe: _fleet_pb2.Recipe
    previews: int
    def __init__(self, request: _Optional[str] = ..., run: _Optional[str] = ..., images: _Optional[int] = ..., seed: _Optional[int] = ..., within_s: _Optional[float] = ..., quality: _Optional[_Union[Demand, _Mapping]] = ..., priority: _Optional[int] = ..., origin: _Optional[str] = ..., where: _Optional[str] = ..., device: _Optional[str] = ..., recipe: _Optional[_Union[_fleet_pb2.Recipe, _Mapping]] = ..., previews: _Optional[int] = ...) -> None: ...

class PhaseJoules(_message.Message):
    __slots__ = ("phase", "seconds", "readings")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    READINGS_FIELD_NUMBER: _ClassVar[int]
    phase: str
    seconds: float
    readings: _containers.RepeatedCompositeFieldContainer[_fleet_pb2.EnergyReading]
    def __init__(self, phase: _Optional[str] = ..., seconds: _Optional[float] = ..., readings: _Optional[_Iterable[_Union[_fleet_pb2.EnergyReading, _Mapping]]] = ...) -> None: ...

class Placement(_message.Message):
    __slots__ = ("device", "batch", "recipe", "shared_with", "starts_at_s", "ends_at_s", "expected")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    SHARED_WITH_FIELD_NUMBER: _ClassVar[int]
    STARTS_AT_S_FIELD_NUMBER: _ClassVar[int]
    ENDS_AT_S_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    device: str
    batch: str
    recipe: _fleet_pb2.Recipe
    shared_with: int
    starts_at_s: float
    ends_at_s: float
    expected: _fleet_pb2.Expected
    def __init__(self, device: _Optional[str] = ..., batch: _Optional[str] = ..., recipe: _Optional[_Union[_fleet_pb2.Recipe, _Mapping]] = ..., shared_with: _Optional[int] = ..., starts_at_s: _Optional[float] = ..., ends_at_s: _Optional[float] = ..., expected: _Optional[_Union[_fleet_pb2.Expected, _Mapping]] = ...) -> None: ...

class Feasible(_message.Message):
    __slots__ = ("within_s", "at_most", "images")
    WITHIN_S_FIELD_NUMBER: _ClassVar[int]
    AT_MOST_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    within_s: float
    at_most: float
    images: int
    def __init__(self, within_s: _Optional[float] = ..., at_most: _Optional[float] = ..., images: _Optional[int] = ...) -> None: ...

class RequestReport(_message.Message):
    __slots__ = ("request", "status", "received_at_s", "deadline_at_s", "model_sha256", "latency_s", "late", "tries", "placement", "phases", "digest", "size_bytes", "wire_bytes", "reason", "feasible", "complete")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_AT_S_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_AT_S_FIELD_NUMBER: _ClassVar[int]
    MODEL_SHA256_FIELD_NUMBER: _ClassVar[int]
    LATENCY_S_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    TRIES_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    PHASES_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    WIRE_BYTES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FEASIBLE_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    request: GenerationRequest
    status: str
    received_at_s: float
    deadline_at_s: float
    model_sha256: str
    latency_s: float
    late: bool
    tries: int
    placement: Placement
    phases: _containers.RepeatedCompositeFieldContainer[PhaseJoules]
    digest: str
    size_bytes: int
    wire_bytes: int
    reason: str
    feasible: Feasible
    complete: bool
    def __init__(self, request: _Optional[_Union[GenerationRequest, _Mapping]] = ..., status: _Optional[str] = ..., received_at_s: _Optional[float] = ..., deadline_at_s: _Optional[float] = ..., model_sha256: _Optional[str] = ..., latency_s: _Optional[float] = ..., late: _Optional[bool] = ..., tries: _Optional[int] = ..., placement: _Optional[_Union[Placement, _Mapping]] = ..., phases: _Optional[_Iterable[_Union[PhaseJoules, _Mapping]]] = ..., digest: _Optional[str] = ..., size_bytes: _Optional[int] = ..., wire_bytes: _Optional[int] = ..., reason: _Optional[str] = ..., feasible: _Optional[_Union[Feasible, _Mapping]] = ..., complete: _Optional[bool] = ...) -> None: ...

class KeepQualityRequest(_message.Message):
    __slots__ = ("run", "laws_json")
    RUN_FIELD_NUMBER: _ClassVar[int]
    LAWS_JSON_FIELD_NUMBER: _ClassVar[int]
    run: str
    laws_json: str
    def __init__(self, run: _Optional[str] = ..., laws_json: _Optional[str] = ...) -> None: ...

class KeepQualityResponse(_message.Message):
    __slots__ = ("model_sha256",)
    MODEL_SHA256_FIELD_NUMBER: _ClassVar[int]
    model_sha256: str
    def __init__(self, model_sha256: _Optional[str] = ...) -> None: ...

class GetQualityRequest(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class GetQualityResponse(_message.Message):
    __slots__ = ("model_sha256", "laws_json")
    MODEL_SHA256_FIELD_NUMBER: _ClassVar[int]
    LAWS_JSON_FIELD_NUMBER: _ClassVar[int]
    model_sha256: str
    laws_json: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model_sha256: _Optional[str] = ..., laws_json: _Optional[_Iterable[str]] = ...) -> None: ...
