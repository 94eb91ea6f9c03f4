"""Applications: which count, how each stands, what is asked of their agents, and who keeps which at hand."""
