"""Where joules come from.

A counter only goes up; a window is a subtraction of two of its readings. A counter that fails says so:
its reading is None with a flag, and no other counter's number stands in for it. Power is derived from
energy and never the other way round. Times are monotonic.
"""
