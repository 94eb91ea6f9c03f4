"""Tests with real processes, real applications and a real browser."""
