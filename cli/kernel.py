"""What a Linux kernel can do to emulate a link, from what it says of itself; nothing is loaded or run."""

import gzip
import platform
import re
from dataclasses import dataclass
from pathlib import Path

FEATURES = {
    "sch_tbf": ("CONFIG_NET_SCH_TBF", "the rate of a link"),
    "sch_netem": ("CONFIG_NET_SCH_NETEM", "delay, jitter and loss of a link"),
    "ifb": ("CONFIG_IFB", "shaping of what arrives"),
    "act_mirred": ("CONFIG_NET_ACT_MIRRED", "shaping of what arrives"),
}
"""Module: (its option, what it emulates)."""


@dataclass(frozen=True)
class Feature:
    """Whether the kernel has a module; None: nothing on this machine says."""

    present: bool | None
    detail: str


def feature(module: str, root: Path = Path("/"), release: str = platform.release()) -> Feature:
    """What is known of `module` in the kernel `release`, looked up below `root`."""
    modules = root / "lib" / "modules" / release
    if re.search(rf"^{module} ", _text(root / "proc" / "modules"), re.MULTILINE):
        return Feature(True, "loaded")
    named = re.compile(rf"/{module.replace('_', '[-_]')}\.ko")
    if named.search(_text(modules / "modules.builtin")):
        return Feature(True, "built into the kernel")
    if named.search(_text(modules / "modules.dep")):
        return Feature(True, "a module, loaded when it is needed")
    option = FEATURES[module][0]
    config = _config(root, release)
    if config is None:
        return Feature(None, f"unknown: neither {modules} nor the kernel's configuration can be read")
    if re.search(rf"^{option}=y$", config, re.MULTILINE):
        return Feature(True, "built into the kernel")
    if re.search(rf"^{option}=m$", config, re.MULTILINE):
        if (modules / "modules.dep").is_file():
            return Feature(False, "a module of this kernel that is not installed (linux-modules-extra?)")
        return Feature(
            None, f"unknown: a module of this kernel, and there is no {modules} to see if it is installed"
        )
    return Feature(False, f"not in this kernel ({option} is not set)")


def _config(root: Path, release: str) -> str | None:
    packed = root / "proc" / "config.gz"
    try:
        return gzip.decompress(packed.read_bytes()).decode()
    except (OSError, EOFError):
        return _text(root / "boot" / f"config-{release}") or None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
