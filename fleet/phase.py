"""What an agent is doing when its meter looks."""

from enum import StrEnum


class Phase(StrEnum):
    """What an agent was doing in a window."""

    DOWNLOAD = "download"
    TRAIN = "train"
    CLIP = "clip"
    QUANTIZE = "quantize"
    MASK = "mask"
    UPLOAD = "upload"
    GENERATE = "generate"
    IDLE = "idle"
