"""Dumb and atomic: read, amend, and nothing that decides."""
