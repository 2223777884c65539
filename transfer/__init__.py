"""Checkpoints into detectron2, with proof, and the detection protocols that use them: ``python -m transfer --help``."""

import warnings

# Importing detectron2 scripts a few functions; the notice is for its authors, not for who reads our progress.
warnings.filterwarnings("ignore", message=".torch.jit.script. is deprecated", category=FutureWarning)
