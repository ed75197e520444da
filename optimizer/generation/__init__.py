"""Generation on demand: a reconstruction of FlexGen (Li, Dong, Qian, Zhou, Wu, IEEE TCCN 2024).

[P] a flexible diffusion model whose quality and cost are adjusted by request; the energy of the server is
minimised subject to a quality and to the client's latency, from the relation of width and expected quality; the
problem is decomposed into the strategy of each request and the resources; up to two times less energy at equal
quality. [R] everything else: standard formulations that fit the abstract, in the formulas of each module.

`quality` what a choice is worth, `schedule` one request's widths, steps and bits, `resources` frequency and
bandwidth, `serving` many requests on many devices.
"""
