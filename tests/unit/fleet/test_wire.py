import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet import wire
from fleet.domain import AgentMessage, CoordinatorMessage
from fleet.errors import BadRequest
from fleet.v1 import fleet_pb2

for kind, values in {
    int: st.integers(0, 2**31),
    float: st.floats(allow_nan=False),
    str: st.text(max_size=20),
}.items():
    st.register_type_strategy(kind, values)

anything = st.one_of(*(st.from_type(c) for c in wire.CLASSES))
messages = st.one_of(*(st.from_type(c) for c in (*AgentMessage.__args__, *CoordinatorMessage.__args__)))
quick = settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow], deadline=None)


@quick
@given(anything)
def test_everything_that_crosses_the_wire_comes_back_as_it_was(x):
    message = type(wire.to_proto(x)).FromString(wire.to_proto(x).SerializeToString())
    assert wire.from_proto(message) == x


@quick
@given(messages)
def test_every_message_fits_its_envelope(x):
    assert wire.unwrap(wire.envelope(x)) == x


def test_every_message_of_the_schema_with_a_domain_twin_has_its_fields():
    for cls in wire.CLASSES:
        wire._fields(cls)


def test_an_unknown_phase_is_named():
    with pytest.raises(BadRequest, match=r"Progress.phase is 'dancing'; known are download, train"):
        wire.from_proto(fleet_pb2.Progress(phase="dancing"))


def test_an_empty_envelope_is_refused():
    with pytest.raises(BadRequest, match="AgentMessage is empty"):
        wire.unwrap(fleet_pb2.AgentMessage())


def test_what_was_not_measured_is_absent_and_not_zero():
    reading = fleet_pb2.EnergyReading(source="model", quality="estimated")
    assert wire.from_proto(reading).joules is None
