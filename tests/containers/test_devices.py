"""What a container of each kind may use, and how many of them there are."""

import json

import pytest

from fleet.kinds import kind

KINDS = ("raspberry-pi-5", "jetson-orin-nano", "mini-pc-n100", "gpu-workstation")
SHOWN_WITHIN_S = 15.0
SPIN = (
    "import time; end = time.monotonic() + 3\nwhile time.monotonic() < end: pass\nprint(time.process_time() / 3)"
)


@pytest.mark.parametrize("name", KINDS)
def test_a_device_gets_the_processors_of_its_kind_and_no_more(stack, name):
    (container,) = stack.containers(name)
    used = float(container.exec_run(["python3", "-c", SPIN]).output)
    assert used < kind(name).emulation.cpus * 1.15


def test_a_device_that_wants_more_memory_than_its_kind_has_is_ended(stack):
    allowed = kind("raspberry-pi-5").emulation.memory_bytes
    program = f"bytearray(int({allowed} * %s)).count(1); print('had it')"
    run = ("run", "--rm", "--no-deps", "--entrypoint", "python3", "raspberry-pi-5", "-c")
    less, more = (stack.compose(*run, program % share, check=False) for share in (0.8, 1.1))
    assert (less.stdout.strip(), less.returncode, more.stdout.strip(), more.returncode) == ("had it", 0, "", 137)


def test_agents_run_as_a_user_without_any_capability_and_write_nowhere_but_their_volume(stack):
    (container,) = stack.containers("mini-pc-n100")
    program = (
        "import json, os, re; status = open('/proc/1/status').read();"
        "caps = re.findall(r'Cap(?:Inh|Prm|Eff|Bnd|Amb):\\t0*(\\w*)', status);"
        "uid = int(re.search(r'Uid:\\t(\\d+)', status)[1]);"
        "print(json.dumps([uid, ''.join(caps), os.access('/', os.W_OK), os.access('/opt', os.W_OK), os.access('/var/lib/wattbed', os.W_OK)]))"
    )
    assert json.loads(container.exec_run(["python3", "-c", program]).output) == [10001, "", False, False, True]


def test_the_image_carries_the_machine_code_of_the_quantiser(stack):
    program = (
        "import numpy, quantizer; from quantizer.compiled import KERNELS;"
        "quantizer.encode({'x': numpy.ones(5000, numpy.float32)}, 8, seed=1);"
        "stats = [kernel.stats for kernel, _ in KERNELS];"
        "print(sum(sum(s.cache_hits.values()) for s in stats) > 0, sum(sum(s.cache_misses.values()) for s in stats))"
    )
    run = ("run", "--rm", "--no-deps", "--entrypoint", "python3", "gpu-workstation", "-c", program)
    assert stack.compose(*run).stdout.split() == ["True", "0"]


def test_three_of_a_kind_are_three_targets_and_then_one_again(stack):
    def up() -> int:
        return len(stack.query('up{job="agents", device_kind="raspberry-pi-5"} == 1'))

    stack.until("the first", lambda: up() == 1, 30)
    try:
        stack.compose(
            "up", "--detach", "--no-deps", "--no-recreate", "--scale", "raspberry-pi-5=3", "raspberry-pi-5"
        )
        shown_s = stack.until("three targets", lambda: up() == 3, 60)
        devices = {r["metric"]["agent"] for r in stack.query('up{device_kind="raspberry-pi-5"} == 1')}
    finally:
        stack.compose(
            "up", "--detach", "--no-deps", "--no-recreate", "--scale", "raspberry-pi-5=1", "raspberry-pi-5"
        )
    stack.until("one target again", lambda: up() == 1, 60)
    assert (shown_s < SHOWN_WITHIN_S, len(devices)) == (True, 3)


def test_a_device_keeps_its_name_when_its_container_is_made_anew(stack):
    def names() -> set[str]:
        return {r["metric"]["agent"] for r in stack.query('up{job="agents", device_kind="jetson-orin-nano"} == 1')}

    stack.until("the device", names, 30)
    before, first = names(), stack.containers("jetson-orin-nano")[0].id
    stack.compose(
        "up", "--detach", "--no-deps", "--force-recreate", "--timeout", "5", "--wait", "jetson-orin-nano"
    )
    stack.shape("jetson-orin-nano")
    stack.attached(4)
    stack.until("the device again", names, 30)
    assert (before, names()) == ({"jetson-orin-nano-1"}, {"jetson-orin-nano-1"})
    assert stack.containers("jetson-orin-nano")[0].id != first
