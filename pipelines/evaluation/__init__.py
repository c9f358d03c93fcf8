"""How well a pipeline agrees with what people know to be true, and how sure that is."""
