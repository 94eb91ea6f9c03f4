"""What tport is made of: the locks, what is known against them, and the list of parts."""
