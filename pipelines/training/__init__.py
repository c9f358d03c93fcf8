"""How the networks here were trained, and how a site trains its own: loop, data, recipes."""
