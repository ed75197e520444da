"""On-demand bit-widths for federated diffusion: a reconstruction of Lai et al. (arXiv 2403.04430).

[P] bit-widths follow each device's demand; energy under a bound on the quantisation error, by KKT conditions and
bisection; time, power and quantisation level are balanced; unquantised and fixed-bit federation are the
baselines. [R] everything else: a standard formulation that fits the abstract, in the formulas of each module.
"""
