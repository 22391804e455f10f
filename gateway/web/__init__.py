"""The web faces: one exchange without I/O, the ASGI host around it, and the gateway process."""
