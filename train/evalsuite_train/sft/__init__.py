"""Supervised fine-tuning: replies are learnt, task by task, from easy to hard."""
