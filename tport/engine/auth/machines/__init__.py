"""What proxies and agents tell of themselves, and what they follow. Memory only."""
