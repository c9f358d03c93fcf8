"""The lungs and the large airways on a chest CT, for the pipelines that look at them."""
