"""How machines enter the cluster and stay in it."""
