"""A policy that was trained instead of derived: the rival of the solvers, over the same ask and tell.

It never sees a constant. It sees what a device's own assignments came to so far, and a small network says which
entry of the menu to take next. The network is trained on simulated devices that are drawn around those of the
log, by stable-baselines3 (the extra `learned`, imported by `environment` and `train` alone); to act it needs
NumPy only.
"""
