"""Print a detector's training progress on stderr: iteration, loss, seconds per iteration, time left."""

from __future__ import annotations

import sys
import time

from detectron2.engine import HookBase

EVERY = 5.0  # seconds


class Progress(HookBase):
    """Print ``iteration 120/300  loss 1.234  0.81 s/it  2:26 left`` at most every EVERY seconds, and at the end."""

    def __init__(self) -> None:
        self._printed = self._started = 0.0

    def before_train(self) -> None:
        """Start the clock."""
        self._printed = self._started = time.perf_counter()

    def after_step(self) -> None:
        """Print if it is time."""
        now, done = time.perf_counter(), self.trainer.iter + 1
        if now - self._printed < EVERY and done != self.trainer.max_iter:
            return
        self._printed = now
        pace = (now - self._started) / (done - self.trainer.start_iter)
        minutes, seconds = divmod(round(pace * (self.trainer.max_iter - done)), 60)
        loss = self.trainer.storage.history("total_loss").latest()
        line = (
            f"iteration {done}/{self.trainer.max_iter}  loss {loss:.3f}  {pace:.2f} s/it  {minutes}:{seconds:02d} left"
        )
        print(line, file=sys.stderr, flush=True)
