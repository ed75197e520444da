from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AgentMessage(_message.Message):
    __slots__ = ("hello", "heartbeat", "progress", "phase_measured", "task_failed", "calibration", "calibration_progress", "calibration_given_up", "generation_measured", "generation_progress", "generation_ended", "models_held", "keys_offered", "shares_sealed", "masks_ready", "revealed")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    PHASE_MEASURED_FIELD_NUMBER: _ClassVar[int]
    TASK_FAILED_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_GIVEN_UP_FIELD_NUMBER: _ClassVar[int]
    GENERATION_MEASURED_FIELD_NUMBER: _ClassVar[int]
    GENERATION_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_ENDED_FIELD_NUMBER: _ClassVar[int]
    MODELS_HELD_FIELD_NUMBER: _ClassVar[int]
    KEYS_OFFERED_FIELD_NUMBER: _ClassVar[int]
    SHARES_SEALED_FIELD_NUMBER: _ClassVar[int]
    MASKS_READY_FIELD_NUMBER: _ClassVar[int]
    REVEALED_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    heartbeat: Heartbeat
    progress: Progress
    phase_measured: PhaseMeasured
    task_failed: TaskFailed
    calibration: Calibration
    calibration_progress: CalibrationProgress
    calibration_given_up: CalibrationGivenUp
    generation_measured: GenerationMeasured
    generation_progress: GenerationProgress
    generation_ended: GenerationEnded
    models_held: ModelsHeld
    keys_offered: KeysOffered
    shares_sealed: SharesSealed
    masks_ready: MasksReady
    revealed: Revealed
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., phase_measured: _Optional[_Union[PhaseMeasured, _Mapping]] = ..., task_failed: _Optional[_Union[TaskFailed, _Mapping]] = ..., calibration: _Optional[_Union[Calibration, _Mapping]] = ..., calibration_progress: _Optional[_Union[CalibrationProgress, _Mapping]] = ..., calibration_given_up: _Optional[_Union[CalibrationGivenUp, _Mapping]] = ..., generation_measured: _Optional[_Union[GenerationMeasured, _Mapping]] = ..., generation_progress: _Optional[_Union[GenerationProgress, _Mapping]] = ..., generation_ended: _Optional[_Union[GenerationEnded, _Mapping]] = ..., models_held: _Optional[_Union[ModelsHeld, _Mapping]] = ..., keys_offered: _Optional[_Union[KeysOffered, _Mapping]] = ..., shares_sealed: _Optional[_Union[SharesSealed, _Mapping]] = ..., masks_ready: _Optional[_Union[MasksReady, _Mapping]] = ..., revealed: _Optional[_Union[Revealed, _Mapping]] = ...) -> None: ...

class CoordinatorMessage(_message.Message):
    __slots__ = ("welcome", "heartbeat_ack", "task", "cancel", "measurement_ack", "calibrate", "cancel_calibration", "calibration_ack", "generation_task", "cancel_generation", "keep_models", "keys_wanted", "shares_wanted", "shares_delivered", "reveal_wanted")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_ACK_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    MEASUREMENT_ACK_FIELD_NUMBER: _ClassVar[int]
    CALIBRATE_FIELD_NUMBER: _ClassVar[int]
    CANCEL_CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_ACK_FIELD_NUMBER: _ClassVar[int]
    GENERATION_TASK_FIELD_NUMBER: _ClassVar[int]
    CANCEL_GENERATION_FIELD_NUMBER: _ClassVar[int]
    KEEP_MODELS_FIELD_NUMBER: _ClassVar[int]
    KEYS_WANTED_FIELD_NUMBER: _ClassVar[int]
    SHARES_WANTED_FIELD_NUMBER: _ClassVar[int]
    SHARES_DELIVERED_FIELD_NUMBER: _ClassVar[int]
    REVEAL_WANTED_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    heartbeat_ack: HeartbeatAck
    task: Task
    cancel: Cancel
    measurement_ack: MeasurementAck
    calibrate: Calibrate
    cancel_calibration: CancelCalibration
    calibration_ack: CalibrationAck
    generation_task: GenerationTask
    cancel_generation: CancelGeneration
    keep_models: KeepModels
    keys_wanted: KeysWanted
    shares_wanted: SharesWanted
    shares_delivered: SharesDelivered
    reveal_wanted: RevealWanted
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., heartbeat_ack: _Optional[_Union[HeartbeatAck, _Mapping]] = ..., task: _Optional[_Union[Task, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ..., measurement_ack: _Optional[_Union[MeasurementAck, _Mapping]] = ..., calibrate: _Optional[_Union[Calibrate, _Mapping]] = ..., cancel_calibration: _Optional[_Union[CancelCalibration, _Mapping]] = ..., calibration_ack: _Optional[_Union[CalibrationAck, _Mapping]] = ..., generation_task: _Optional[_Union[GenerationTask, _Mapping]] = ..., cancel_generation: _Optional[_Union[CancelGeneration, _Mapping]] = ..., keep_models: _Optional[_Union[KeepModels, _Mapping]] = ..., keys_wanted: _Optional[_Union[KeysWanted, _Mapping]] = ..., shares_wanted: _Optional[_Union[SharesWanted, _Mapping]] = ..., shares_delivered: _Optional[_Union[SharesDelivered, _Mapping]] = ..., reveal_wanted: _Optional[_Union[RevealWanted, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol_version", "device", "capabilities", "metrics_address")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    METRICS_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    device: str
    capabilities: Capabilities
    metrics_address: str
    def __init__(self, protocol_version: _Optional[int] = ..., device: _Optional[str] = ..., capabilities: _Optional[_Union[Capabilities, _Mapping]] = ..., metrics_address: _Optional[str] = ...) -> None: ...

class Capabilities(_message.Message):
    __slots__ = ("kind", "cpu_model", "cpu_cores", "memory_bytes", "gpu_model", "machine", "agent_version", "meters", "rejected_meters", "levers", "cpu_quota", "link", "model_storage_bytes", "place", "compute_capability", "gpu_memory_bytes", "kernel_modules", "versions")
    KIND_FIELD_NUMBER: _ClassVar[int]
    CPU_MODEL_FIELD_NUMBER: _ClassVar[int]
    CPU_CORES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    GPU_MODEL_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    METERS_FIELD_NUMBER: _ClassVar[int]
    REJECTED_METERS_FIELD_NUMBER: _ClassVar[int]
    LEVERS_FIELD_NUMBER: _ClassVar[int]
    CPU_QUOTA_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    MODEL_STORAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_CAPABILITY_FIELD_NUMBER: _ClassVar[int]
    GPU_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    KERNEL_MODULES_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    cpu_model: str
    cpu_cores: int
    memory_bytes: int
    gpu_model: str
    machine: str
    agent_version: str
    meters: _containers.RepeatedCompositeFieldContainer[MeterInfo]
    rejected_meters: _containers.RepeatedCompositeFieldContainer[RejectedMeter]
    levers: _containers.RepeatedCompositeFieldContainer[LeverInfo]
    cpu_quota: float
    link: LinkInfo
    model_storage_bytes: int
    place: str
    compute_capability: str
    gpu_memory_bytes: int
    kernel_modules: _containers.RepeatedScalarFieldContainer[str]
    versions: _containers.RepeatedCompositeFieldContainer[VersionInfo]
    def __init__(self, kind: _Optional[str] = ..., cpu_model: _Optional[str] = ..., cpu_cores: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., gpu_model: _Optional[str] = ..., machine: _Optional[str] = ..., agent_version: _Optional[str] = ..., meters: _Optional[_Iterable[_Union[MeterInfo, _Mapping]]] = ..., rejected_meters: _Optional[_Iterable[_Union[RejectedMeter, _Mapping]]] = ..., levers: _Optional[_Iterable[_Union[LeverInfo, _Mapping]]] = ..., cpu_quota: _Optional[float] = ..., link: _Optional[_Union[LinkInfo, _Mapping]] = ..., model_storage_bytes: _Optional[int] = ..., place: _Optional[str] = ..., compute_capability: _Optional[str] = ..., gpu_memory_bytes: _Optional[int] = ..., kernel_modules: _Optional[_Iterable[str]] = ..., versions: _Optional[_Iterable[_Union[VersionInfo, _Mapping]]] = ...) -> None: ...

class VersionInfo(_message.Message):
    __slots__ = ("what", "version")
    WHAT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    what: str
    version: str
    def __init__(self, what: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class RejectedMeter(_message.Message):
    __slots__ = ("source", "reason")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    source: str
    reason: str
    def __init__(self, source: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class LeverInfo(_message.Message):
    __slots__ = ("lever", "unit", "minimum", "maximum", "detail")
    LEVER_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    lever: str
    unit: str
    minimum: float
    maximum: float
    detail: str
    def __init__(self, lever: _Optional[str] = ..., unit: _Optional[str] = ..., minimum: _Optional[float] = ..., maximum: _Optional[float] = ..., detail: _Optional[str] = ...) -> None: ...

class LinkInfo(_message.Message):
    __slots__ = ("rate_up_bps", "rate_down_bps", "delay_s", "jitter_s", "loss", "rate_by", "delay_by", "loss_by", "trace", "transmit_watts", "receive_watts")
    RATE_UP_BPS_FIELD_NUMBER: _ClassVar[int]
    RATE_DOWN_BPS_FIELD_NUMBER: _ClassVar[int]
    DELAY_S_FIELD_NUMBER: _ClassVar[int]
    JITTER_S_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    RATE_BY_FIELD_NUMBER: _ClassVar[int]
    DELAY_BY_FIELD_NUMBER: _ClassVar[int]
    LOSS_BY_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    TRANSMIT_WATTS_FIELD_NUMBER: _ClassVar[int]
    RECEIVE_WATTS_FIELD_NUMBER: _ClassVar[int]
    rate_up_bps: float
    rate_down_bps: float
    delay_s: float
    jitter_s: float
    loss: float
    rate_by: str
    delay_by: str
    loss_by: str
    trace: str
    transmit_watts: float
    receive_watts: float
    def __init__(self, rate_up_bps: _Optional[float] = ..., rate_down_bps: _Optional[float] = ..., delay_s: _Optional[float] = ..., jitter_s: _Optional[float] = ..., loss: _Optional[float] = ..., rate_by: _Optional[str] = ..., delay_by: _Optional[str] = ..., loss_by: _Optional[str] = ..., trace: _Optional[str] = ..., transmit_watts: _Optional[float] = ..., receive_watts: _Optional[float] = ...) -> None: ...

class MeterInfo(_message.Message):
    __slots__ = ("source", "component", "scope", "quality", "detail")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    source: str
    component: str
    scope: str
    quality: str
    detail: str
    def __init__(self, source: _Optional[str] = ..., component: _Optional[str] = ..., scope: _Optional[str] = ..., quality: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("protocol_version", "heartbeat_interval_s", "coordinator_time_s", "device")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_S_FIELD_NUMBER: _ClassVar[int]
    COORDINATOR_TIME_S_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    heartbeat_interval_s: float
    coordinator_time_s: float
    device: str
    def __init__(self, protocol_version: _Optional[int] = ..., heartbeat_interval_s: _Optional[float] = ..., coordinator_time_s: _Optional[float] = ..., device: _Optional[str] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("sequence", "agent_time_s", "power", "cpu_seconds_total", "memory_bytes", "totals")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    AGENT_TIME_S_FIELD_NUMBER: _ClassVar[int]
    POWER_FIELD_NUMBER: _ClassVar[int]
    CPU_SECONDS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTALS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    agent_time_s: float
    power: _containers.RepeatedCompositeFieldContainer[Power]
    cpu_seconds_total: float
    memory_bytes: int
    totals: _containers.RepeatedCompositeFieldContainer[PhaseTotal]
    def __init__(self, sequence: _Optional[int] = ..., agent_time_s: _Optional[float] = ..., power: _Optional[_Iterable[_Union[Power, _Mapping]]] = ..., cpu_seconds_total: _Optional[float] = ..., memory_bytes: _Optional[int] = ..., totals: _Optional[_Iterable[_Union[PhaseTotal, _Mapping]]] = ...) -> None: ...

class Power(_message.Message):
    __slots__ = ("watts", "source", "component", "quality")
    WATTS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    watts: float
    source: str
    component: str
    quality: str
    def __init__(self, watts: _Optional[float] = ..., source: _Optional[str] = ..., component: _Optional[str] = ..., quality: _Optional[str] = ...) -> None: ...

class PhaseTotal(_message.Message):
    __slots__ = ("phase", "seconds", "component", "quality", "joules", "source", "scope")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    JOULES_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    phase: str
    seconds: float
    component: str
    quality: str
    joules: float
    source: str
    scope: str
    def __init__(self, phase: _Optional[str] = ..., seconds: _Optional[float] = ..., component: _Optional[str] = ..., quality: _Optional[str] = ..., joules: _Optional[float] = ..., source: _Optional[str] = ..., scope: _Optional[str] = ...) -> None: ...

class HeartbeatAck(_message.Message):
    __slots__ = ("sequence",)
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    def __init__(self, sequence: _Optional[int] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("run", "round", "phase", "done", "total", "loss")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    run: str
    round: int
    phase: str
    done: int
    total: int
    loss: float
    def __init__(self, run: _Optional[str] = ..., round: _Optional[int] = ..., phase: _Optional[str] = ..., done: _Optional[int] = ..., total: _Optional[int] = ..., loss: _Optional[float] = ...) -> None: ...

class PhaseMeasured(_message.Message):
    __slots__ = ("window", "run", "round", "phase", "started_at_s", "seconds", "readings", "levers")
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_S_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    READINGS_FIELD_NUMBER: _ClassVar[int]
    LEVERS_FIELD_NUMBER: _ClassVar[int]
    window: str
    run: str
    round: int
    phase: str
    started_at_s: float
    seconds: float
    readings: _containers.RepeatedCompositeFieldContainer[EnergyReading]
    levers: _containers.RepeatedCompositeFieldContainer[LeverOutcome]
    def __init__(self, window: _Optional[str] = ..., run: _Optional[str] = ..., round: _Optional[int] = ..., phase: _Optional[str] = ..., started_at_s: _Optional[float] = ..., seconds: _Optional[float] = ..., readings: _Optional[_Iterable[_Union[EnergyReading, _Mapping]]] = ..., levers: _Optional[_Iterable[_Union[LeverOutcome, _Mapping]]] = ...) -> None: ...

class LeverOutcome(_message.Message):
    __slots__ = ("lever", "requested", "applied", "reason")
    LEVER_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    lever: str
    requested: float
    applied: float
    reason: str
    def __init__(self, lever: _Optional[str] = ..., requested: _Optional[float] = ..., applied: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...

class EnergyReading(_message.Message):
    __slots__ = ("source", "component", "scope", "quality", "joules", "low_joules", "high_joules", "flags")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    JOULES_FIELD_NUMBER: _ClassVar[int]
    LOW_JOULES_FIELD_NUMBER: _ClassVar[int]
    HIGH_JOULES_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    source: str
    component: str
    scope: str
    quality: str
    joules: float
    low_joules: float
    high_joules: float
    flags: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, source: _Optional[str] = ..., component: _Optional[str] = ..., scope: _Optional[str] = ..., quality: _Optional[str] = ..., joules: _Optional[float] = ..., low_joules: _Optional[float] = ..., high_joules: _Optional[float] = ..., flags: _Optional[_Iterable[str]] = ...) -> None: ...

class MeasurementAck(_message.Message):
    __slots__ = ("window",)
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    window: str
    def __init__(self, window: _Optional[str] = ...) -> None: ...

class Task(_message.Message):
    __slots__ = ("assignment", "workload", "options_json", "shards", "block_size", "error_feedback", "codec", "keep", "entropy", "clip_norm", "masking")
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_JSON_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_SIZE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    ENTROPY_FIELD_NUMBER: _ClassVar[int]
    CLIP_NORM_FIELD_NUMBER: _ClassVar[int]
    MASKING_FIELD_NUMBER: _ClassVar[int]
    assignment: Assignment
    workload: str
    options_json: str
    shards: int
    block_size: int
    error_feedback: bool
    codec: str
    keep: float
    entropy: str
    clip_norm: float
    masking: Masking
    def __init__(self, assignment: _Optional[_Union[Assignment, _Mapping]] = ..., workload: _Optional[str] = ..., options_json: _Optional[str] = ..., shards: _Optional[int] = ..., block_size: _Optional[int] = ..., error_feedback: _Optional[bool] = ..., codec: _Optional[str] = ..., keep: _Optional[float] = ..., entropy: _Optional[str] = ..., clip_norm: _Optional[float] = ..., masking: _Optional[_Union[Masking, _Mapping]] = ...) -> None: ...

class Masking(_message.Message):
    __slots__ = ("clip_range", "ring_bits")
    CLIP_RANGE_FIELD_NUMBER: _ClassVar[int]
    RING_BITS_FIELD_NUMBER: _ClassVar[int]
    clip_range: float
    ring_bits: int
    def __init__(self, clip_range: _Optional[float] = ..., ring_bits: _Optional[int] = ...) -> None: ...

class KeysWanted(_message.Message):
    __slots__ = ("run", "round", "attempt", "agreed", "threshold")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    AGREED_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    run: str
    round: int
    attempt: str
    agreed: bool
    threshold: int
    def __init__(self, run: _Optional[str] = ..., round: _Optional[int] = ..., attempt: _Optional[str] = ..., agreed: _Optional[bool] = ..., threshold: _Optional[int] = ...) -> None: ...

class KeysOffered(_message.Message):
    __slots__ = ("run", "round", "attempt", "sealing_key", "masking_key")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    SEALING_KEY_FIELD_NUMBER: _ClassVar[int]
    MASKING_KEY_FIELD_NUMBER: _ClassVar[int]
    run: str
    round: int
    attempt: str
    sealing_key: bytes
    masking_key: bytes
    def __init__(self, run: _Optional[str] = ..., round: _Optional[int] = ..., attempt: _Optional[str] = ..., sealing_key: _Optional[bytes] = ..., masking_key: _Optional[bytes] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("device", "sealing_key", "masking_key")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SEALING_KEY_FIELD_NUMBER: _ClassVar[int]
    MASKING_KEY_FIELD_NUMBER: _ClassVar[int]
    device: str
    sealing_key: bytes
    masking_key: bytes
    def __init__(self, device: _Optional[str] = ..., sealing_key: _Optional[bytes] = ..., masking_key: _Optional[bytes] = ...) -> None: ...

class SharesWanted(_message.Message):
    __slots__ = ("run", "round", "attempt", "members")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    run: str
    round: int
    attempt: str
    members: _containers.RepeatedCompositeFieldContainer[Member]
    def __init__(self, run: _Optional[str] = ..., round: _Optional[int] = ..., attempt: _Optional[str] = ..., members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ...) -> None: ...

class Sealed(_message.Message):
    __slots__ = ("device", "box")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    device: str
    box: bytes
    def __init__(self, device: _Optional[str] = ..., box: _Optional[bytes] = ...) -> None: ...

class SharesSealed(_message.Message):
    __slots__ = ("run", "round", "attempt", "boxes")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    BOXES_FIELD_NUMBER: _ClassVar[int]
    run: str
    round: int
    attempt: str
    boxes: _containers.RepeatedCompositeFieldContainer[Sealed]
    def __init__(self, run: _Optional[str] = ..., round: _Optional[int] = ..., attempt: _Optional[str] = ..., boxes: _Optional[_Iterable[_Union[Sealed, _Mapping]]] = ...) -> None: ...

class SharesDelivered(_message.Message):
    __slots__ = ("run", "round", "attempt", "boxes")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    BOXES_FIELD_NUMBER: _ClassVar[int]
    run: str
    round: int
    attempt: str
    boxes: _containers.RepeatedCompositeFieldContainer[Sealed]
    def __init__(self, run: _Optional[str] = ..., round: _Optional[int] = ..., attempt: _Optional[str] = ..., boxes: _Optional[_Iterable[_Union[Sealed, _Mapping]]] = ...) -> None: ...

class MasksReady(_message.Message):
    __slots__ = ("run", "round", "attempt")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    run: str
    round: int
    attempt: str
    def __init__(self, run: _Optional[str] = ..., round: _Optional[int] = ..., attempt: _Optional[str] = ...) -> None: ...

class RevealWanted(_message.Message):
    __slots__ = ("run", "round", "attempt", "arrived")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ARRIVED_FIELD_NUMBER: _ClassVar[int]
    run: str
    round: int
    attempt: str
    arrived: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, run: _Optional[str] = ..., round: _Optional[int] = ..., attempt: _Optional[str] = ..., arrived: _Optional[_Iterable[str]] = ...) -> None: ...

class Revealed(_message.Message):
    __slots__ = ("run", "round", "attempt", "shares")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    run: str
    round: int
    attempt: str
    shares: _containers.RepeatedCompositeFieldContainer[Share]
    def __init__(self, run: _Optional[str] = ..., round: _Optional[int] = ..., attempt: _Optional[str] = ..., shares: _Optional[_Iterable[_Union[Share, _Mapping]]] = ...) -> None: ...

class Share(_message.Message):
    __slots__ = ("device", "value")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    device: str
    value: bytes
    def __init__(self, device: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("run", "round", "device", "model_sha256", "model_bytes", "shard", "bits_up", "bits_down", "precision", "width", "train_steps", "seed", "deadline_at_s", "residual_round", "power_limit_watts", "frequency_hz", "predicted", "note")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MODEL_SHA256_FIELD_NUMBER: _ClassVar[int]
    MODEL_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHARD_FIELD_NUMBER: _ClassVar[int]
    BITS_UP_FIELD_NUMBER: _ClassVar[int]
    BITS_DOWN_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    TRAIN_STEPS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_AT_S_FIELD_NUMBER: _ClassVar[int]
    RESIDUAL_ROUND_FIELD_NUMBER: _ClassVar[int]
    POWER_LIMIT_WATTS_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_HZ_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    run: str
    round: int
    device: str
    model_sha256: str
    model_bytes: int
    shard: int
    bits_up: int
    bits_down: int
    precision: str
    width: float
    train_steps: int
    seed: int
    deadline_at_s: float
    residual_round: int
    power_limit_watts: float
    frequency_hz: float
    predicted: Prediction
    note: str
    def __init__(self, run: _Optional[str] = ..., round: _Optional[int] = ..., device: _Optional[str] = ..., model_sha256: _Optional[str] = ..., model_bytes: _Optional[int] = ..., shard: _Optional[int] = ..., bits_up: _Optional[int] = ..., bits_down: _Optional[int] = ..., precision: _Optional[str] = ..., width: _Optional[float] = ..., train_steps: _Optional[int] = ..., seed: _Optional[int] = ..., deadline_at_s: _Optional[float] = ..., residual_round: _Optional[int] = ..., power_limit_watts: _Optional[float] = ..., frequency_hz: _Optional[float] = ..., predicted: _Optional[_Union[Prediction, _Mapping]] = ..., note: _Optional[str] = ...) -> None: ...

class Prediction(_message.Message):
    __slots__ = ("joules", "seconds", "origin", "samples", "quality", "scope")
    JOULES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    joules: float
    seconds: float
    origin: str
    samples: int
    quality: str
    scope: str
    def __init__(self, joules: _Optional[float] = ..., seconds: _Optional[float] = ..., origin: _Optional[str] = ..., samples: _Optional[int] = ..., quality: _Optional[str] = ..., scope: _Optional[str] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("run", "round", "reason")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    run: str
    round: int
    reason: str
    def __init__(self, run: _Optional[str] = ..., round: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class TaskFailed(_message.Message):
    __slots__ = ("run", "round", "reason")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    run: str
    round: int
    reason: str
    def __init__(self, run: _Optional[str] = ..., round: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class StatBlobRequest(_message.Message):
    __slots__ = ("digest", "run", "round", "device", "batch", "request")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    digest: str
    run: str
    round: int
    device: str
    batch: str
    request: str
    def __init__(self, digest: _Optional[str] = ..., run: _Optional[str] = ..., round: _Optional[int] = ..., device: _Optional[str] = ..., batch: _Optional[str] = ..., request: _Optional[str] = ...) -> None: ...

class StatBlobResponse(_message.Message):
    __slots__ = ("held_bytes", "complete")
    HELD_BYTES_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    held_bytes: int
    complete: bool
    def __init__(self, held_bytes: _Optional[int] = ..., complete: _Optional[bool] = ...) -> None: ...

class GetBlobRequest(_message.Message):
    __slots__ = ("sha256", "offset_bytes", "device", "run", "round", "batch")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    offset_bytes: int
    device: str
    run: str
    round: int
    batch: str
    def __init__(self, sha256: _Optional[str] = ..., offset_bytes: _Optional[int] = ..., device: _Optional[str] = ..., run: _Optional[str] = ..., round: _Optional[int] = ..., batch: _Optional[str] = ...) -> None: ...

class BlobChunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class PutBlobRequest(_message.Message):
    __slots__ = ("header", "data", "images")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    header: UpdateHeader
    data: bytes
    images: ImagesHeader
    def __init__(self, header: _Optional[_Union[UpdateHeader, _Mapping]] = ..., data: _Optional[bytes] = ..., images: _Optional[_Union[ImagesHeader, _Mapping]] = ...) -> None: ...

class UpdateHeader(_message.Message):
    __slots__ = ("run", "round", "device", "digest", "size_bytes", "offset_bytes", "samples", "loss", "protocol_version", "update_range", "attempt")
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    UPDATE_RANGE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    run: str
    round: int
    device: str
    digest: str
    size_bytes: int
    offset_bytes: int
    samples: int
    loss: float
    protocol_version: int
    update_range: float
    attempt: str
    def __init__(self, run: _Optional[str] = ..., round: _Optional[int] = ..., device: _Optional[str] = ..., digest: _Optional[str] = ..., size_bytes: _Optional[int] = ..., offset_bytes: _Optional[int] = ..., samples: _Optional[int] = ..., loss: _Optional[float] = ..., protocol_version: _Optional[int] = ..., update_range: _Optional[float] = ..., attempt: _Optional[str] = ...) -> None: ...

class PutBlobResponse(_message.Message):
    __slots__ = ("fresh",)
    FRESH_FIELD_NUMBER: _ClassVar[int]
    fresh: bool
    def __init__(self, fresh: _Optional[bool] = ...) -> None: ...

class Calibrate(_message.Message):
    __slots__ = ("calibration", "plan")
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    calibration: str
    plan: CalibrationPlan
    def __init__(self, calibration: _Optional[str] = ..., plan: _Optional[_Union[CalibrationPlan, _Mapping]] = ...) -> None: ...

class CancelCalibration(_message.Message):
    __slots__ = ("calibration", "reason")
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    calibration: str
    reason: str
    def __init__(self, calibration: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class CalibrationAck(_message.Message):
    __slots__ = ("calibration",)
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    calibration: str
    def __init__(self, calibration: _Optional[str] = ...) -> None: ...

class CalibrationProgress(_message.Message):
    __slots__ = ("calibration", "done", "total", "what")
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    calibration: str
    done: int
    total: int
    what: str
    def __init__(self, calibration: _Optional[str] = ..., done: _Optional[int] = ..., total: _Optional[int] = ..., what: _Optional[str] = ...) -> None: ...

class CalibrationGivenUp(_message.Message):
    __slots__ = ("calibration", "reason")
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    calibration: str
    reason: str
    def __init__(self, calibration: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class CalibrationPlan(_message.Message):
    __slots__ = ("workload", "options_json", "shards", "block_size", "error_feedback", "widths", "precisions", "bits", "repeats", "window_s", "warm_up_s", "idle_s", "cool_down_s", "lost_after_s", "deadline_s", "quick", "seed", "budget_s")
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_JSON_FIELD_NUMBER: _ClassVar[int]
    SHARDS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_SIZE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    WIDTHS_FIELD_NUMBER: _ClassVar[int]
    PRECISIONS_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    REPEATS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_S_FIELD_NUMBER: _ClassVar[int]
    WARM_UP_S_FIELD_NUMBER: _ClassVar[int]
    IDLE_S_FIELD_NUMBER: _ClassVar[int]
    COOL_DOWN_S_FIELD_NUMBER: _ClassVar[int]
    LOST_AFTER_S_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    QUICK_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    BUDGET_S_FIELD_NUMBER: _ClassVar[int]
    workload: str
    options_json: str
    shards: int
    block_size: int
    error_feedback: bool
    widths: _containers.RepeatedScalarFieldContainer[float]
    precisions: _containers.RepeatedScalarFieldContainer[str]
    bits: _containers.RepeatedScalarFieldContainer[int]
    repeats: int
    window_s: float
    warm_up_s: float
    idle_s: float
    cool_down_s: float
    lost_after_s: float
    deadline_s: float
    quick: bool
    seed: int
    budget_s: float
    def __init__(self, workload: _Optional[str] = ..., options_json: _Optional[str] = ..., shards: _Optional[int] = ..., block_size: _Optional[int] = ..., error_feedback: _Optional[bool] = ..., widths: _Optional[_Iterable[float]] = ..., precisions: _Optional[_Iterable[str]] = ..., bits: _Optional[_Iterable[int]] = ..., repeats: _Optional[int] = ..., window_s: _Optional[float] = ..., warm_up_s: _Optional[float] = ..., idle_s: _Optional[float] = ..., cool_down_s: _Optional[float] = ..., lost_after_s: _Optional[float] = ..., deadline_s: _Optional[float] = ..., quick: _Optional[bool] = ..., seed: _Optional[int] = ..., budget_s: _Optional[float] = ...) -> None: ...

class Calibration(_message.Message):
    __slots__ = ("calibration", "device", "plan", "started_at_s", "seconds", "model_bytes", "rows")
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_S_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    MODEL_BYTES_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    calibration: str
    device: str
    plan: CalibrationPlan
    started_at_s: float
    seconds: float
    model_bytes: int
    rows: _containers.RepeatedCompositeFieldContainer[CalibrationRow]
    def __init__(self, calibration: _Optional[str] = ..., device: _Optional[str] = ..., plan: _Optional[_Union[CalibrationPlan, _Mapping]] = ..., started_at_s: _Optional[float] = ..., seconds: _Optional[float] = ..., model_bytes: _Optional[int] = ..., rows: _Optional[_Iterable[_Union[CalibrationRow, _Mapping]]] = ...) -> None: ...

class CalibrationRow(_message.Message):
    __slots__ = ("work", "repeats", "units", "seconds", "iqr_seconds", "residual", "width", "precision", "bits", "joules", "reason", "left_out")
    WORK_FIELD_NUMBER: _ClassVar[int]
    REPEATS_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    IQR_SECONDS_FIELD_NUMBER: _ClassVar[int]
    RESIDUAL_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    JOULES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    work: str
    repeats: int
    units: float
    seconds: float
    iqr_seconds: float
    residual: float
    width: float
    precision: str
    bits: int
    joules: _containers.RepeatedCompositeFieldContainer[UnitJoules]
    reason: str
    left_out: bool
    def __init__(self, work: _Optional[str] = ..., repeats: _Optional[int] = ..., units: _Optional[float] = ..., seconds: _Optional[float] = ..., iqr_seconds: _Optional[float] = ..., residual: _Optional[float] = ..., width: _Optional[float] = ..., precision: _Optional[str] = ..., bits: _Optional[int] = ..., joules: _Optional[_Iterable[_Union[UnitJoules, _Mapping]]] = ..., reason: _Optional[str] = ..., left_out: _Optional[bool] = ...) -> None: ...

class UnitJoules(_message.Message):
    __slots__ = ("source", "component", "scope", "quality", "joules", "iqr_joules", "dynamic_joules", "residual", "flags")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    COMPONENT_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    JOULES_FIELD_NUMBER: _ClassVar[int]
    IQR_JOULES_FIELD_NUMBER: _ClassVar[int]
    DYNAMIC_JOULES_FIELD_NUMBER: _ClassVar[int]
    RESIDUAL_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    source: str
    component: str
    scope: str
    quality: str
    joules: float
    iqr_joules: float
    dynamic_joules: float
    residual: float
    flags: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, source: _Optional[str] = ..., component: _Optional[str] = ..., scope: _Optional[str] = ..., quality: _Optional[str] = ..., joules: _Optional[float] = ..., iqr_joules: _Optional[float] = ..., dynamic_joules: _Optional[float] = ..., residual: _Optional[float] = ..., flags: _Optional[_Iterable[str]] = ...) -> None: ...

class GetFillerRequest(_message.Message):
    __slots__ = ("device", "calibration", "size_bytes")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    device: str
    calibration: str
    size_bytes: int
    def __init__(self, device: _Optional[str] = ..., calibration: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class PutFillerRequest(_message.Message):
    __slots__ = ("device", "calibration", "data")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    device: str
    calibration: str
    data: bytes
    def __init__(self, device: _Optional[str] = ..., calibration: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class PutFillerResponse(_message.Message):
    __slots__ = ("received_bytes",)
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    received_bytes: int
    def __init__(self, received_bytes: _Optional[int] = ...) -> None: ...

class Recipe(_message.Message):
    __slots__ = ("widths", "sampler", "bits")
    WIDTHS_FIELD_NUMBER: _ClassVar[int]
    SAMPLER_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    widths: _containers.RepeatedScalarFieldContainer[float]
    sampler: str
    bits: int
    def __init__(self, widths: _Optional[_Iterable[float]] = ..., sampler: _Optional[str] = ..., bits: _Optional[int] = ...) -> None: ...

class Portion(_message.Message):
    __slots__ = ("request", "images", "seed", "previews")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    PREVIEWS_FIELD_NUMBER: _ClassVar[int]
    request: str
    images: int
    seed: int
    previews: int
    def __init__(self, request: _Optional[str] = ..., images: _Optional[int] = ..., seed: _Optional[int] = ..., previews: _Optional[int] = ...) -> None: ...

class Expected(_message.Message):
    __slots__ = ("joules", "seconds", "quality", "metric", "origin", "samples", "energy_law")
    JOULES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    ENERGY_LAW_FIELD_NUMBER: _ClassVar[int]
    joules: float
    seconds: float
    quality: float
    metric: str
    origin: str
    samples: int
    energy_law: str
    def __init__(self, joules: _Optional[float] = ..., seconds: _Optional[float] = ..., quality: _Optional[float] = ..., metric: _Optional[str] = ..., origin: _Optional[str] = ..., samples: _Optional[int] = ..., energy_law: _Optional[str] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("batch", "run", "device", "model_sha256", "model_bytes", "recipe", "portions", "expected")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MODEL_SHA256_FIELD_NUMBER: _ClassVar[int]
    MODEL_BYTES_FIELD_NUMBER: _ClassVar[int]
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    PORTIONS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    batch: str
    run: str
    device: str
    model_sha256: str
    model_bytes: int
    recipe: Recipe
    portions: _containers.RepeatedCompositeFieldContainer[Portion]
    expected: Expected
    def __init__(self, batch: _Optional[str] = ..., run: _Optional[str] = ..., device: _Optional[str] = ..., model_sha256: _Optional[str] = ..., model_bytes: _Optional[int] = ..., recipe: _Optional[_Union[Recipe, _Mapping]] = ..., portions: _Optional[_Iterable[_Union[Portion, _Mapping]]] = ..., expected: _Optional[_Union[Expected, _Mapping]] = ...) -> None: ...

class GenerationTask(_message.Message):
    __slots__ = ("batch", "workload", "options_json")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_JSON_FIELD_NUMBER: _ClassVar[int]
    batch: Batch
    workload: str
    options_json: str
    def __init__(self, batch: _Optional[_Union[Batch, _Mapping]] = ..., workload: _Optional[str] = ..., options_json: _Optional[str] = ...) -> None: ...

class CancelGeneration(_message.Message):
    __slots__ = ("batch", "reason")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    batch: str
    reason: str
    def __init__(self, batch: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ModelRef(_message.Message):
    __slots__ = ("run", "sha256", "size_bytes", "workload", "options_json")
    RUN_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    WORKLOAD_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_JSON_FIELD_NUMBER: _ClassVar[int]
    run: str
    sha256: str
    size_bytes: int
    workload: str
    options_json: str
    def __init__(self, run: _Optional[str] = ..., sha256: _Optional[str] = ..., size_bytes: _Optional[int] = ..., workload: _Optional[str] = ..., options_json: _Optional[str] = ...) -> None: ...

class KeepModels(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelRef]
    def __init__(self, models: _Optional[_Iterable[_Union[ModelRef, _Mapping]]] = ...) -> None: ...

class Preview(_message.Message):
    __slots__ = ("request", "png")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    PNG_FIELD_NUMBER: _ClassVar[int]
    request: str
    png: bytes
    def __init__(self, request: _Optional[str] = ..., png: _Optional[bytes] = ...) -> None: ...

class GenerationProgress(_message.Message):
    __slots__ = ("batch", "done", "steps", "previews")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    PREVIEWS_FIELD_NUMBER: _ClassVar[int]
    batch: str
    done: int
    steps: int
    previews: _containers.RepeatedCompositeFieldContainer[Preview]
    def __init__(self, batch: _Optional[str] = ..., done: _Optional[int] = ..., steps: _Optional[int] = ..., previews: _Optional[_Iterable[_Union[Preview, _Mapping]]] = ...) -> None: ...

class GenerationMeasured(_message.Message):
    __slots__ = ("window", "batch", "phase", "started_at_s", "seconds", "readings")
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_S_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    READINGS_FIELD_NUMBER: _ClassVar[int]
    window: str
    batch: str
    phase: str
    started_at_s: float
    seconds: float
    readings: _containers.RepeatedCompositeFieldContainer[EnergyReading]
    def __init__(self, window: _Optional[str] = ..., batch: _Optional[str] = ..., phase: _Optional[str] = ..., started_at_s: _Optional[float] = ..., seconds: _Optional[float] = ..., readings: _Optional[_Iterable[_Union[EnergyReading, _Mapping]]] = ...) -> None: ...

class GenerationEnded(_message.Message):
    __slots__ = ("batch", "reason")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    batch: str
    reason: str
    def __init__(self, batch: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ModelsHeld(_message.Message):
    __slots__ = ("sha256", "held_bytes", "storage_bytes")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    HELD_BYTES_FIELD_NUMBER: _ClassVar[int]
    STORAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    sha256: _containers.RepeatedScalarFieldContainer[str]
    held_bytes: int
    storage_bytes: int
    def __init__(self, sha256: _Optional[_Iterable[str]] = ..., held_bytes: _Optional[int] = ..., storage_bytes: _Optional[int] = ...) -> None: ...

class ImagesHeader(_message.Message):
    __slots__ = ("batch", "request", "device", "digest", "size_bytes", "offset_bytes", "protocol_version")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    batch: str
    request: str
    device: str
    digest: str
    size_bytes: int
    offset_bytes: int
    protocol_version: int
    def __init__(self, batch: _Optional[str] = ..., request: _Optional[str] = ..., device: _Optional[str] = ..., digest: _Optional[str] = ..., size_bytes: _Optional[int] = ..., offset_bytes: _Optional[int] = ..., protocol_version: _Optional[int] = ...) -> None: ...
