"""Fractures on single radiographs, by a detector that the site added."""
