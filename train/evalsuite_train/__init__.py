"""The stages of training a Chinese–English language model, small enough to read in one sitting.

A recipe (YAML) has one section a stage; ``evalsuite-train STAGE --recipe FILE`` runs one of them and
``evalsuite-train ladder --recipe FILE`` runs them in order. Each stage writes a checkpoint folder that
``evalsuite run --model`` opens: the Checkpoint is the only thing shared with evalsuite.
"""

__version__ = "0.1.0"
