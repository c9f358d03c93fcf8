"""What reports say, which diseases there are, and what guidelines recommend: rules, no network."""
