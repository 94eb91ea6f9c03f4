"""Who may do what: values in, a decision out. No I/O, no clock."""
