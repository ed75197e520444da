"""What of a device can be set: power limits, clocks and CPU time. Whatever is set is put back."""
