"""The shaper over a real kernel, in network namespaces made for it. Rates by bytes moved: tests/containers/test_links.py."""

import json
import os
import subprocess
import sys
import uuid

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces and tc need root")

KIND = "raspberry-pi-5"


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def namespaces():
    """Two namespaces with a wire between them; the name of the near one."""
    name = f"wattbed-{uuid.uuid4().hex[:8]}"
    near, far = f"{name}-near", f"{name}-far"
    try:
        for namespace in (near, far):
            ip("netns", "add", namespace)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here: {error}")
    ip("link", "add", "wire", "netns", near, "type", "veth", "peer", "name", "wire", "netns", far)
    for namespace, address in ((near, "10.99.0.1/24"), (far, "10.99.0.2/24")):
        ip("-n", namespace, "addr", "add", address, "dev", "wire")
        ip("-n", namespace, "link", "set", "wire", "up")
    yield near
    for namespace in (near, far):
        ip("netns", "del", namespace)


def inside(namespace, *words, **variables):
    return subprocess.run(
        ["ip", "netns", "exec", namespace, *words],
        env={k: v for k, v in os.environ.items() if not k.startswith("WATTBED_")} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def shape(namespace, *words, **variables):
    return inside(
        namespace, sys.executable, "-m", "edge_agent.link", "shape", *words, **{"WATTBED_KIND": KIND} | variables
    )


def state(namespace):
    """Interfaces, queues, filters, routing rules and netfilter's rules; without the index of a filter's action."""
    names = [link["ifname"] for link in json.loads(inside(namespace, "ip", "-j", "link", "show").stdout)]
    commands = ("tc qdisc show", "tc filter show dev wire parent ffff:", "ip rule show", "iptables -t mangle -S")
    shown = [inside(namespace, *command.split()).stdout.splitlines() for command in commands]
    return names, [[line for line in lines if "index" not in line] for lines in shown]


@pytest.mark.parametrize("variables", [{}, {"WATTBED_RELAY": "relay:1"}], ids=["alone", "with a relay"])
def test_shaping_twice_is_shaping_once_and_clearing_leaves_nothing(namespaces, variables):
    untouched = state(namespaces)
    first = shape(namespaces, **variables)
    assert (first.returncode, first.stdout[:21]) == (0, "wire: rate by tbf, de"), first.stderr
    once = state(namespaces)
    assert shape(namespaces, **variables).returncode == 0
    assert (state(namespaces) == once, once != untouched) == (True, True)
    assert [shape(namespaces, "--clear").returncode for _ in range(2)] == [0, 0]
    assert state(namespaces) == untouched


def test_an_unprivileged_process_sees_what_the_shaper_set_up(namespaces):
    assert shape(namespaces, WATTBED_RELAY="relay:1").returncode == 0
    program = (
        "import os; from edge_agent.link.route import Route; from fleet.kinds import kind;"
        f"route = Route('c:1', 'relay:1', kind('{KIND}').link); os.setgid(65534); os.setuid(65534);"
        "info = route.now().link; print(info.rate_by, info.rate_up_bps)"
    )
    seen = inside(namespaces, sys.executable, "-c", program)
    assert seen.stdout == "tbf 20000000.0\n", seen.stderr


def test_what_is_lost_outwards_is_lost_to_tcp_too(namespaces):
    """TCP must retransmit; a plain drop in netfilter's OUTPUT is an error to the sender, who just tries again."""
    shaped = shape(namespaces)
    if "netfilter" not in shaped.stdout:
        pytest.skip("this kernel has netem, netfilter loses nothing here")
    far = namespaces.replace("near", "far")
    listen = "import socket; c = socket.create_server(('', 5000)).accept()[0]\nwhile c.recv(65536): pass"
    with subprocess.Popen(["ip", "netns", "exec", far, sys.executable, "-c", listen]) as listening:
        send = (
            "import socket, time\n"
            "for _ in range(100):\n"
            "    try:\n        c = socket.create_connection(('10.99.0.2', 5000)); break\n"
            "    except OSError:\n        time.sleep(0.1)\n"
            "c.sendall(bytes(3_000_000))\n"
            "fields = [line.split() for line in open('/proc/net/snmp') if line.startswith('Tcp:')]\n"
            "print(dict(zip(*fields))['RetransSegs'])"
        )
        sent = inside(namespaces, sys.executable, "-c", send)
        listening.wait(30)
    assert int(sent.stdout) > 0, sent.stderr


def test_without_the_right_to_it_the_error_names_the_command(namespaces):
    program = (
        "import os, sys; from edge_agent.link.__main__ import main; from fleet.kinds import kinds; kinds();"
        "os.setgid(65534); os.setuid(65534); sys.exit(main(['shape']))"
    )
    refused = inside(namespaces, sys.executable, "-c", program, WATTBED_KIND=KIND)
    assert (refused.returncode, refused.stderr.startswith("edge_agent.link: `ip link add wattbed-")) == (
        1,
        True,
    ), refused
