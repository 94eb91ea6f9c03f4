"""Certificates by ACME, their accounts at CAs, and who shows their challenges."""
