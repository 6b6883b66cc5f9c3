"""Counting, measuring and drawing what models are and do."""
