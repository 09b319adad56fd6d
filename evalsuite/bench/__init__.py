"""How fast a checkpoint runs, on how much memory: measured, never guessed.

    Workload → worker (a process of its own) → Sample → Round → Quantity → Bench

Each configuration is measured in every round, in turn with the others, offline each time by a fresh
process: its peak of memory is its own, and what varies from start to start is in the interval.
"""
