"""A folder for PYTHONPATH: processes that tests start get their randomness marked. See tests/canary.py."""
