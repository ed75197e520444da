"""One device: keeps its stream to the coordinator, trains, quantises and uploads, and meters itself."""
