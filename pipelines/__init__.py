"""The science: one folder per clinical question."""
