"""Energy-optimal precision for quantised federated learning (Kim et al., arXiv 2111.07911 and 2207.09387)."""
