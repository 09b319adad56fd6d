"""Learning from feedback other than PPO: candidates, preference pairs, and batches of both."""
