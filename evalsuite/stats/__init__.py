"""How sure are we: intervals of one score, and paired differences between two runs."""
