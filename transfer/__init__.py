"""Convert checkpoints for detectron2, with proof, and run the detection protocols: ``python -m transfer --help``."""

import warnings

# Importing detectron2 scripts a few functions; the warning is for its authors, not for our users.
warnings.filterwarnings("ignore", message=".torch.jit.script. is deprecated", category=FutureWarning)
