"""What helps others to find out what is wrong, in one file, and no secret in it."""
