"""The `wattbed` command."""
