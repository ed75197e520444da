"""The sum comes out exactly, nothing else does, and it survives whom it is said to survive."""

import numpy as np
import pytest

from coordinator.secure_sum import fill, opened, unmasked
from fleet.errors import BadRequest, CorruptUpdate
from fleet.masking import Member, Share, SharesDelivered, SharesWanted
from quantizer import PayloadError, ring

PLACE = ("x-1", 3, "attempt")
SHAPES = {"b": (300, 257), "a": (7,), "none": (0, 3), "scale": ()}


def sums(fleet, blobs, arrived, zeros, update_of, of=None):
    updates = [fleet.masked(blobs, name, update_of(k), seed=k) for k, name in enumerate(arrived)]
    secrets = opened(fleet.keys, arrived, fleet.reveal(arrived, of), fleet.threshold)
    fill(updates, fleet.keys, secrets, 1.0, 1.0, zeros, 1.0)
    return zeros


@pytest.mark.parametrize("bits", [2, 4, 8, 13, 16])
def test_the_sum_is_exactly_that_of_the_decoded_updates(fleet, blobs, zeros, update_of, bits):
    made = fleet(bits=bits).agree()
    found = sums(made, blobs, made.names, zeros, update_of)
    for name, expected in made.sum_of(made.names).items():
        np.testing.assert_array_equal(found[name], expected.astype(np.float32))


@pytest.mark.parametrize("arrived", [("d0", "d1", "d2", "d3"), ("d1", "d2", "d4"), ("d0", "d3", "d4")])
def test_devices_that_are_lost_after_agreeing_leave_no_trace(fleet, blobs, zeros, update_of, arrived):
    made = fleet().agree()
    found = sums(made, blobs, list(arrived), zeros, update_of)
    for name, expected in made.sum_of(arrived).items():
        np.testing.assert_array_equal(found[name], expected.astype(np.float32))


def test_devices_that_are_lost_between_keys_and_shares_leave_no_trace(fleet, blobs, zeros, update_of):
    made = fleet().agree(sharing=["d0", "d2", "d3", "d4"])
    found = sums(made, blobs, ["d0", "d2", "d4"], zeros, update_of)
    for name, expected in made.sum_of(["d0", "d2", "d4"]).items():
        np.testing.assert_array_equal(found[name], expected.astype(np.float32))


def test_any_threshold_of_survivors_will_do(fleet, blobs, zeros, update_of):
    made = fleet().agree()
    found = sums(made, blobs, made.names, zeros, update_of, of=["d1", "d3", "d4"])
    for name, expected in made.sum_of(made.names).items():
        np.testing.assert_array_equal(found[name], expected.astype(np.float32))


def test_fewer_survivors_than_the_threshold_undo_nothing(fleet, blobs, update_of):
    made = fleet().agree()
    with pytest.raises(BadRequest, match="shares of 2 devices; 3 are needed"):
        opened(made.keys, made.names, made.reveal(made.names, of=["d0", "d1"]), made.threshold)


def test_a_masked_update_looks_like_any_other(fleet, blobs, update_of):
    """An update of zeros, masked: every number of the ring as often as the next."""
    made = fleet(bits=4).agree()
    zero = {name: 0 * x for name, x in update_of(1).items()}
    masked = made.masked(blobs, "d0", zero, seed=0)
    payload = blobs.path(masked.digest).read_bytes()
    form = ring.read_ring(payload, verify=True)
    counts = np.bincount(form.block(payload, 0), minlength=1 << form.ring_bits)
    expected = ring.BLOCK / (1 << form.ring_bits)
    chi_square = np.square(counts - expected).sum() / expected
    assert chi_square < 127 + 8 * np.sqrt(2 * 127)


def test_masks_of_two_rounds_have_nothing_in_common(fleet, blobs, update_of):
    payloads = []
    for _ in range(2):
        made = fleet().agree()
        masked = made.masked(blobs, "d0", update_of(1), seed=0)
        payloads.append(blobs.path(masked.digest).read_bytes())
    forms = [ring.read_ring(p, verify=True) for p in payloads]
    same = forms[0].block(payloads[0], 0) == forms[1].block(payloads[1], 0)
    assert same.mean() < 0.01


def test_a_device_reveals_for_one_set_of_arrivals_only(fleet):
    made = fleet().agree()
    first = made.reveal(made.names)
    assert made.reveal(made.names) == first
    with pytest.raises(BadRequest, match="d0 revealed shares for other arrivals"):
        made.reveal(made.names[:4])


def test_a_device_reveals_nothing_of_too_few(fleet):
    made = fleet().agree()
    with pytest.raises(BadRequest, match="2 arrivals, 3 members are needed"):
        made.reveal(made.names[:2])


def test_a_threshold_that_two_halves_could_reach_is_refused(fleet):
    with pytest.raises(BadRequest, match="2 of 5 devices cannot be the threshold"):
        fleet(count=5, threshold=2).agree()


def test_members_with_the_keys_of_one_are_refused(fleet):
    made = fleet().agree()
    ours = made.attempts["d0"].offer()
    fake = tuple(Member(f"d{k}", ours.sealing_key, ours.masking_key) for k in range(3))
    from edge_agent.masking import Attempt

    other = Attempt("d0", *PLACE)
    with pytest.raises(BadRequest, match="out of order, share keys or lack d0"):
        other.seal(SharesWanted(*PLACE, fake), 2)


def test_a_box_for_somebody_else_does_not_open(fleet):
    made = fleet()
    made.agree()
    from edge_agent.masking import Attempt
    from fleet.masking import Sealed

    attempts = {name: Attempt(name, *PLACE) for name in made.names}
    offers = [(name, a.offer()) for name, a in attempts.items()]
    members = tuple(Member(name, o.sealing_key, o.masking_key) for name, o in offers)
    sealed = {name: a.seal(SharesWanted(*PLACE, members), 3) for name, a in attempts.items()}
    for_d1 = next(b.box for b in sealed["d0"].boxes if b.device == "d1")
    with pytest.raises(BadRequest, match="a box of 48 bytes does not open"):
        attempts["d2"].open(SharesDelivered(*PLACE, (Sealed("d0", for_d1),)))


def test_an_altered_share_of_a_lost_device_is_noticed(fleet):
    made = fleet().agree()
    arrived = ["d0", "d1", "d2"]
    revealed = made.reveal(arrived)
    shares = tuple(Share(s.device, bytes(16)) if s.device == "d4" else s for s in revealed["d1"].shares)
    from dataclasses import replace

    revealed["d1"] = replace(revealed["d1"], shares=shares)
    with pytest.raises(BadRequest, match="the shares of d4 do not make its key: one of d0, d1, d2"):
        opened(made.keys, arrived, revealed, 3)


def test_an_update_that_was_masked_wrongly_is_noticed(fleet, blobs, update_of):
    made = fleet().agree()
    stranger = fleet().agree()
    updates = [made.masked(blobs, name, update_of(1), 1) for name in made.names[:4]]
    updates.append(stranger.masked(blobs, "d4", update_of(1), 1))
    secrets = opened(made.keys, made.names, made.reveal(made.names), 3)
    with pytest.raises(CorruptUpdate, match="is no sum of 5 updates"):
        list(unmasked(updates, made.keys, secrets))


@pytest.mark.parametrize("ring_bits", [1, 7, 8, 11, 16, 17, 20, 32])
def test_numbers_of_any_width_come_back(ring_bits):
    import io

    import xxhash

    numbers = (
        np.random.default_rng(1)
        .integers(0, 1 << ring_bits, 3 * ring.BLOCK + 17, dtype=np.uint64)
        .astype(np.uint32)
    )
    form, sink = ring.Ring(1, ring_bits, numbers.size), io.BytesIO()
    ring.write(sink, form, np.split(numbers, range(ring.BLOCK, numbers.size, ring.BLOCK)), xxhash.xxh3_128())
    payload = sink.getvalue()
    assert ring.read_ring(payload, verify=True) == form
    back = np.concatenate([form.block(payload, start) for start in range(0, form.values, ring.BLOCK)])
    np.testing.assert_array_equal(back, numbers)


@pytest.mark.parametrize(
    "spoil", [lambda p: p[:-1], lambda p: p[:40] + b"!" + p[41:], lambda p: b"GIF" + p[3:], lambda p: b""]
)
def test_a_damaged_ring_payload_is_refused(fleet, blobs, update_of, spoil):
    made = fleet().agree()
    payload = blobs.path(made.masked(blobs, "d0", update_of(1), 1).digest).read_bytes()
    with pytest.raises(PayloadError):
        ring.read_ring(spoil(payload), verify=True)


def test_only_fixed_codes_can_be_added():
    import quantizer

    with pytest.raises(PayloadError, match="codes of codec 'uniform' cannot be added up"):
        list(ring.codes(quantizer.encode({n: np.ones(s, np.float32) for n, s in SHAPES.items()}, 8, seed=0)))
