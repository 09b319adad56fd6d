"""``python -m evalsuite_train.chat CHECKPOINT``."""

from evalsuite_train.chat.command import main

main()
