"""Who decides: policies, and the models of energy and time they plan with. NumPy and SciPy only."""
