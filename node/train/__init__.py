"""From a site's files to the examples that a recipe learns from."""
