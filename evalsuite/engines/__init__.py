"""Engines answer requests. They know nothing of tasks."""
