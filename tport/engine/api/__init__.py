"""All that services know of auth: the calls (protocol), their bytes (wire), the far end (remote)."""
