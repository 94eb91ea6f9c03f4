"""The audit log: what happened, by whom, as lines of JSON in a file a day."""
