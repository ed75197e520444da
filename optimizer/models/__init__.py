"""The formulas: energy, radio, convergence and quantisation error, each with its origin and units.

[P] is published by the authors of the system named, in the abstract, a cited open paper or their public code;
[R] is wattbed's reconstruction, a standard formulation that fits the abstract. Parameters are frozen; the
published tables are named in `presets`.
"""
