"""PPO from human feedback, small and whole (Huang et al. 2024, arXiv 2403.17031)."""
