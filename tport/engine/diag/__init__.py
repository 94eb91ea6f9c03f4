"""What the operator of a process may ask of it: does it live, is it well, what does it count."""
