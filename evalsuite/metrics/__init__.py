"""Pure functions from an answer and a reference to numbers."""
