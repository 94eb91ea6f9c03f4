"""The auth service: people, roles, tokens, sessions, certificates; what may be decided, it decides."""
