"""The reward model: which of two replies to a prompt is the better one (Bradley–Terry)."""
