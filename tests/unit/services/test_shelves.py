from hashlib import sha256

from coordinator.shelves import Shelves


def test_a_run_that_has_ended_leaves_no_spare_and_no_half_upload(tmp_path):
    shelves = Shelves(tmp_path)
    store, names = shelves.updates("x-1", "a"), [sha256(word).hexdigest() for word in (b"whole", b"half")]
    whole = store.receive(names[0], 5, 0)
    whole.write(b"whole")
    whole.commit()
    half = store.receive(names[1], 4, 0)
    half.write(b"ha")
    half.suspend()
    shelves.drop("x-1", f"updates/a/{names[0]}")
    shelves.tidy("x-1")
    assert [f for f in tmp_path.rglob("*") if f.is_file()] == []


def test_the_stores_of_devices_are_forgotten_with_their_run_and_what_is_left_in_them_is_found_again(tmp_path):
    shelves = Shelves(tmp_path)
    before, digest = shelves.updates("x-1", "a"), sha256(b"late").hexdigest()
    running = shelves.updates("x-2", "a")
    models = shelves.models("x-1")
    shelves.tidy("x-1")
    late = before.receive(digest, 4, 0)
    late.write(b"late")
    late.commit()
    assert (shelves.updates("x-2", "a") is running, shelves.models("x-1") is models) == (True, True)
    assert shelves.updates("x-1", "a") is not before
    assert shelves.updates("x-1", "a").has(digest)
