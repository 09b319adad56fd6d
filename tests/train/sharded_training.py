"""One process of a section whose models are shared out. Usage: torchrun … sharded_training.py RECIPE SECTION

TIGHT in the environment: no device has room for a whole model. DIES: the last process kills itself in its fourth
iteration.
"""

from __future__ import annotations

import os
import signal
import sys

from evalsuite_train import sharding
from evalsuite_train.cli import main
from evalsuite_train.ppo import stage


def dying(asked, iteration, size, seed):
    if iteration == 3 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return portion(asked, iteration, size, seed)


if __name__ == "__main__":
    portion = stage.portion
    if "TIGHT" in os.environ:
        sharding.fits = lambda model, device: False
    if "DIES" in os.environ:
        stage.portion = dying
    sys.argv[1:] = [sys.argv[2], "--recipe", sys.argv[1]]
    main()
