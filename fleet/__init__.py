"""The words that the coordinator, the agents and the command speak to each other."""
