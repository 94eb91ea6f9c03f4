"""The cluster as text: resources read and written, and what another cluster is made of."""
