"""The application service: dials out, keeps the tunnel, asks the applications."""
