from fleet.v1 import operator_pb2 as _operator_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreateTokenRequest(_message.Message):
    __slots__ = ("kind", "lives_s", "uses", "addresses", "benchmark")
    KIND_FIELD_NUMBER: _ClassVar[int]
    LIVES_S_FIELD_NUMBER: _ClassVar[int]
    USES_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    BENCHMARK_FIELD_NUMBER: _ClassVar[int]
    kind: str
    lives_s: float
    uses: int
    addresses: _containers.RepeatedScalarFieldContainer[str]
    benchmark: bool
    def __init__(self, kind: _Optional[str] = ..., lives_s: _Optional[float] = ..., uses: _Optional[int] = ..., addresses: _Optional[_Iterable[str]] = ..., benchmark: _Optional[bool] = ...) -> None: ...

class CreateTokenResponse(_message.Message):
    __slots__ = ("text", "token", "addresses")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    text: str
    token: _operator_pb2.TokenSummary
    addresses: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, text: _Optional[str] = ..., token: _Optional[_Union[_operator_pb2.TokenSummary, _Mapping]] = ..., addresses: _Optional[_Iterable[str]] = ...) -> None: ...

class ListTokensRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListTokensResponse(_message.Message):
    __slots__ = ("tokens",)
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedCompositeFieldContainer[_operator_pb2.TokenSummary]
    def __init__(self, tokens: _Optional[_Iterable[_Union[_operator_pb2.TokenSummary, _Mapping]]] = ...) -> None: ...

class WithdrawTokenRequest(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: str
    def __init__(self, token: _Optional[str] = ...) -> None: ...

class WithdrawTokenResponse(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: _operator_pb2.TokenSummary
    def __init__(self, token: _Optional[_Union[_operator_pb2.TokenSummary, _Mapping]] = ...) -> None: ...

class DrainDeviceRequest(_message.Message):
    __slots__ = ("device", "drained")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    DRAINED_FIELD_NUMBER: _ClassVar[int]
    device: str
    drained: bool
    def __init__(self, device: _Optional[str] = ..., drained: _Optional[bool] = ...) -> None: ...

class DrainDeviceResponse(_message.Message):
    __slots__ = ("device",)
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    device: _operator_pb2.DeviceSummary
    def __init__(self, device: _Optional[_Union[_operator_pb2.DeviceSummary, _Mapping]] = ...) -> None: ...

class RevokeDeviceRequest(_message.Message):
    __slots__ = ("device", "reason")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    device: str
    reason: str
    def __init__(self, device: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class RevokeDeviceResponse(_message.Message):
    __slots__ = ("device",)
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    device: _operator_pb2.DeviceSummary
    def __init__(self, device: _Optional[_Union[_operator_pb2.DeviceSummary, _Mapping]] = ...) -> None: ...

class RenameDeviceRequest(_message.Message):
    __slots__ = ("device", "name")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    device: str
    name: str
    def __init__(self, device: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class RenameDeviceResponse(_message.Message):
    __slots__ = ("device",)
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    device: _operator_pb2.DeviceSummary
    def __init__(self, device: _Optional[_Union[_operator_pb2.DeviceSummary, _Mapping]] = ...) -> None: ...

class JoinRequest(_message.Message):
    __slots__ = ("protocol_version", "token", "secret", "device", "kind", "signing_request")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SIGNING_REQUEST_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    token: str
    secret: bytes
    device: str
    kind: str
    signing_request: bytes
    def __init__(self, protocol_version: _Optional[int] = ..., token: _Optional[str] = ..., secret: _Optional[bytes] = ..., device: _Optional[str] = ..., kind: _Optional[str] = ..., signing_request: _Optional[bytes] = ...) -> None: ...

class JoinResponse(_message.Message):
    __slots__ = ("certificate", "fleet_port")
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    FLEET_PORT_FIELD_NUMBER: _ClassVar[int]
    certificate: IssuedCertificate
    fleet_port: int
    def __init__(self, certificate: _Optional[_Union[IssuedCertificate, _Mapping]] = ..., fleet_port: _Optional[int] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("signing_request",)
    SIGNING_REQUEST_FIELD_NUMBER: _ClassVar[int]
    signing_request: bytes
    def __init__(self, signing_request: _Optional[bytes] = ...) -> None: ...

class RenewResponse(_message.Message):
    __slots__ = ("certificate",)
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    certificate: IssuedCertificate
    def __init__(self, certificate: _Optional[_Union[IssuedCertificate, _Mapping]] = ...) -> None: ...

class IssuedCertificate(_message.Message):
    __slots__ = ("device", "certificate_pem", "issued_at_s", "expires_at_s")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_PEM_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_S_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_S_FIELD_NUMBER: _ClassVar[int]
    device: str
    certificate_pem: bytes
    issued_at_s: float
    expires_at_s: float
    def __init__(self, device: _Optional[str] = ..., certificate_pem: _Optional[bytes] = ..., issued_at_s: _Optional[float] = ..., expires_at_s: _Optional[float] = ...) -> None: ...
