"""What is evaluated: weights in whatever form they come, where they stand, and their fingerprint.

The one thing that ``train/`` and ``evalsuite/`` share. docs/checkpoints.md lists the forms.
"""

from evalsuite.checkpoint.card import CARD, Card, read_card
from evalsuite.checkpoint.identity import fingerprint
from evalsuite.checkpoint.opening import Checkpoint, open_checkpoint

__all__ = ["CARD", "Card", "Checkpoint", "fingerprint", "open_checkpoint", "read_card"]
