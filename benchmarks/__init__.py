"""Measurements of the book's models; each module is run by a `make bench-...`."""
