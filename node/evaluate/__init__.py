"""A pipeline on a site's own studies, beside what people say is true of them."""
