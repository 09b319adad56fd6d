"""DPO, GRPO and RLOO through trl, as alternatives to PPO."""
