"""The proxy as several processes: the main one starts them, and they share its port."""
