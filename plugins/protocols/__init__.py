"""The wire protocols that the gateway reads: one module each."""
