"""The dry run: recorded exchanges through the same gate, on recorded time."""
