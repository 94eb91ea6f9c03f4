"""What a process counts of itself, and how that reads: pure, so that every part may count."""
