"""Offloading and quality control: a reconstruction of Wang, Liu, Zhao (arXiv 2312.06203, VTC2024-Spring).

[P] the offloading decision, the computation time and the reverse diffusion steps of each user are chosen together;
quality is the average error by steps; better than its baselines. [R] everything else: a standard formulation that
fits the abstract, in the formulas of each module.
"""
