"""What proves a person beside the password: devices, recovery codes, and what is begun with them."""
