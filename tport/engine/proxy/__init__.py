"""The proxy service: the one public port, certificates, tunnels, and requests on their way to agents."""
