"""The shaper over a pretended kernel, which keeps what tc, ip and iptables tell it. The real one: tests/system."""

import json

import pytest

from edge_agent.link.shape import Shaper, netem_words, run, tbf_words
from fleet.errors import BadRequest, ShapingFailed
from fleet.kinds import kind

PI = kind("raspberry-pi-5").link
JETSON = kind("jetson-orin-nano").link


class PretendedKernel:
    """Interfaces, their queues, netfilter's rules; `fails_at` a word, a command with it fails."""

    def __init__(self, netem=False, fails_at=None):
        self.netem = netem
        self.fails_at = fails_at
        self.links = ["lo", "eth0"]
        self.queues = {}
        self.redirected = []
        self.rules = []
        self.policies = 0
        self.said = []

    def __call__(self, argv):
        self.said.append(" ".join(argv))
        if self.fails_at in argv and not {"del", "show"} & {*argv}:
            raise ShapingFailed(f"`{' '.join(argv)}` ended with 2: no")
        return self.answer(list(argv)) or ""

    @property
    def state(self):
        return (sorted(self.links), dict(self.queues), list(self.redirected), list(self.rules), self.policies)

    def answer(self, argv):
        match argv:
            case ["ip", "-j", "route", *_]:
                return json.dumps([{"dev": "eth0"}])
            case ["ip", "-j", "link", "show"]:
                return json.dumps([{"ifname": name} for name in self.links])
            case ["ip", "link", "add", name, "type", "ifb"]:
                self.links.append(name)
            case ["ip", "link", "del", name]:
                self.links.remove(name)
                self.queues = {key: words for key, words in self.queues.items() if key[0] != name}
            case ["ip", _, "rule", "add", *_]:
                self.policies += 1
            case ["ip", _, "rule", "del", *_]:
                self.policies -= 1
            case ["ip", _, "rule", "show"]:
                return "1: from all fwmark 0x77b1 lookup 30641\n" * self.policies
            case ["tc", "-j", "qdisc", "show", "dev", name]:
                listed = [
                    {"kind": words[0], "handle": handle, **({"root": True} if place == "root" else {})}
                    for (there, place), (handle, words) in self.queues.items()
                    if there == name
                ]
                return json.dumps(listed)
            case ["tc", "qdisc", "add" | "replace", "dev", _, "root", "netem", *_] if not self.netem:
                raise ShapingFailed("`tc` ended with 2: Error: Specified qdisc kind is unknown.")
            case ["tc", "qdisc", "replace", "dev", name, "ingress"]:
                self.queues[name, "ingress"] = ("ffff:", ("ingress",))
            case ["tc", "qdisc", "replace", "dev", name, "root", "handle", handle, *words]:
                self.queues[name, "root"] = (handle, tuple(words))
            case ["tc", "qdisc", "replace", "dev", name, "parent", parent, "handle", handle, *words]:
                assert self.queues[name, "root"][0] == parent.removesuffix("1")
                self.queues[name, parent] = (handle, tuple(words))
            case ["tc", "qdisc", "del", "dev", name, place]:
                self.queues = {
                    key: words
                    for key, words in self.queues.items()
                    if key[0] != name or (key[1] == "ingress") != (place == "ingress")
                }
                if place == "ingress":
                    self.redirected.clear()
            case ["tc", "filter", "replace", *words]:
                self.redirected = [" ".join(words)]
            case ["iptables", "-w", "-t", "mangle", "-S"]:
                return "\n".join(self.rules)
            case ["iptables", "-w", "-t", "mangle", "-D", *words]:
                self.rules.remove("-A " + " ".join(words))
            case ["iptables", "-w", "-t", "mangle", "-F", chain]:
                self.rules = [rule for rule in self.rules if not rule.startswith(f"-A {chain} ")]
            case ["iptables", "-w", "-t", "mangle", "-X", chain]:
                self.rules.remove(f"-N {chain}")
            case ["iptables", "-w", "-t", "mangle", *words]:
                self.rules.append(" ".join(words))
        return ""


CASES = [
    pytest.param(netem, link, relayed, traced, id=f"netem={netem} loss={link.loss} relay={relayed} trace={traced}")
    for netem in (False, True)
    for link in (PI, JETSON)
    for relayed in (False, True)
    for traced in (False, True)
]


@pytest.mark.parametrize(("netem", "link", "relayed", "traced"), CASES)
def test_shaping_twice_is_shaping_once(netem, link, relayed, traced):
    kernel = PretendedKernel(netem)
    Shaper(None, kernel).shape(link, relayed, traced)
    once = kernel.state
    Shaper(None, kernel).shape(link, relayed, traced)
    assert kernel.state == once


@pytest.mark.parametrize(("netem", "link", "relayed", "traced"), CASES)
def test_clearing_leaves_nothing(netem, link, relayed, traced):
    kernel = PretendedKernel(netem)
    untouched = kernel.state
    Shaper(None, kernel).shape(link, relayed, traced)
    Shaper(None, kernel).clear()
    Shaper(None, kernel).clear()
    assert kernel.state == untouched


@pytest.mark.parametrize(("netem", "link", "relayed", "traced"), CASES)
def test_shaping_after_another_shape_is_as_if_it_had_not_been(netem, link, relayed, traced):
    fresh, used = PretendedKernel(netem), PretendedKernel(netem)
    Shaper(None, used).shape(PI, False, False)
    Shaper(None, used).shape(link, relayed, traced)
    Shaper(None, fresh).shape(link, relayed, traced)
    assert used.state == fresh.state


@pytest.mark.parametrize("fails_at", ["up", "ingress", "u32", "tbf", "rule", "-A", "MARK"])
def test_a_failure_leaves_nothing_half_done_and_says_what_failed(fails_at):
    kernel = PretendedKernel(fails_at=fails_at)
    untouched = kernel.state
    with pytest.raises(ShapingFailed, match=rf"`.* {fails_at}.*` ended with 2: no"):
        Shaper(None, kernel).shape(PI, False, False)
    assert kernel.state == untouched


@pytest.mark.parametrize(
    ("netem", "relayed", "traced", "says"),
    [
        (True, False, False, "eth0: rate by tbf, delay by netem, loss by netem"),
        (True, True, False, "eth0: rate by tbf, delay by netem, loss by netem"),
        (True, True, True, "eth0: rate by tbf, delay by relay, loss by relay"),
        (False, True, False, "eth0: rate by tbf, delay by relay, loss by relay"),
        (False, False, False, "eth0: rate by tbf, delay by none, loss by netfilter"),
    ],
)
def test_each_part_of_a_link_is_emulated_once(netem, relayed, traced, says):
    kernel = PretendedKernel(netem)
    assert str(Shaper(None, kernel).shape(PI, relayed, traced)) == says
    queues = [words[0] for _, words in kernel.queues.values()]
    assert (queues.count("tbf"), queues.count("netem"), any("DROP" in rule for rule in kernel.rules)) == (
        2,
        2 if "delay by netem" in says else 0,
        "netfilter" in says,
    )


def test_loss_is_both_ways_and_outwards_not_a_drop_that_tcp_would_notice():
    kernel = PretendedKernel()
    Shaper(None, kernel).shape(PI, False, False)
    drops = [rule for rule in kernel.rules if "--probability" in rule]
    assert [(rule.split()[1], rule.split("-j ")[1]) for rule in drops] == [
        ("WATTBED-IN", "DROP"),
        ("WATTBED-OUT", "MARK --set-mark 30641"),
    ]


def test_a_queue_of_somebody_else_is_left_alone():
    kernel = PretendedKernel()
    kernel.queues["eth0", "root"] = ("8001:", ("htb",))
    with pytest.raises(BadRequest, match="eth0 has a root queueing discipline 8001: that is not wattbed's"):
        Shaper(None, kernel).shape(PI, False, False)
    Shaper(None, kernel).clear()
    assert kernel.queues == {("eth0", "root"): ("8001:", ("htb",))}


def test_a_bucket_holds_a_tick_of_the_rate_and_ten_packets_at_least():
    assert (tbf_words(20e6)[4], tbf_words(1e9)[4]) == ("15140b", "500000b")


def test_netem_is_told_delay_jitter_loss_and_to_keep_the_order():
    words = netem_words(PI, PI.rate_up_bps)
    assert " ".join(words) == "netem limit 1000 delay 10000us 5000us loss 0.5% rate 10000000000bit"


def test_a_failing_command_is_an_error_with_the_command_and_what_it_said():
    with pytest.raises(ShapingFailed, match=r"`ls /nowhere-at-all` ended with 2: ls: cannot access"):
        run(("ls", "/nowhere-at-all"))


def test_a_command_that_is_missing_is_an_error_with_its_name():
    with pytest.raises(ShapingFailed, match="`tc-of-another-world -j`: .*No such file"):
        run(("tc-of-another-world", "-j"))
