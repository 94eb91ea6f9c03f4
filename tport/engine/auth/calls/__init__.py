"""AuthAPI as one caller may use it, a part of it in each file."""
