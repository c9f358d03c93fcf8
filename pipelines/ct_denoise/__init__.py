"""CT with less noise, as a series of its own."""
