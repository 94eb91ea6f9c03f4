"""Of the bench what decides: figures, bars, lines of a length."""
