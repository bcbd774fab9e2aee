"""Homes for a reader: one module for each framework, which imports that framework and nothing of the others."""
