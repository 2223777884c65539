"""One run of linear heads: its heads, its tests after each epoch, its outcome, its saves."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from benchmarks.predictions import Predictions
from benchmarks.run import Context
from benchmarks.tasks import TASKS
from benchmarks.tasks.base import Result, Setup
from benchmarks.tasks.compute.crops import Chunk
from benchmarks.tasks.compute.heads import Head
from benchmarks.tasks.compute.scoring import best_first, confidence, top1_top5
from benchmarks.tasks.linear_sgd import style_of
from pretrain.common.errors import InputError, RunError
from pretrain.common.files import replacing
from pretrain.runtime.resume import read_save

KEPT = 2  # saves of each run
SAVED = {"heads", "history", "best"}
HELD_OUT = 20  # images per class that choose a rate, or a fifth of the class; none of a class of one image
ONE_EACH = "no class has a second training image, so that none can be held out to choose a rate"
ROWS = 8192  # whose logits exist at once
Outcome = Result | Exception


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tested:
    """Images that heads are tested on: features N×D and labels (N,) on the device."""

    x: Tensor
    y: Tensor

    def scores(self, head: Head) -> Iterator[Tensor]:
        """Logits, ROWS at a time."""
        with torch.no_grad():
            for rows in self.x.split(ROWS):
                yield head.layer(rows)

    def top(self, head: Head) -> tuple[float, float | None]:
        """Top-1 and, with more than five classes, top-5 in percent."""
        best = torch.cat([best_first(scores) for scores in self.scores(head)])
        return top1_top5(best, self.y, head.layer.out_features)

    def predictions(self, head: Head) -> Predictions:
        """The predicted class of each image, and its probability."""
        predicted, sure = [], []
        for scores in self.scores(head):
            predicted.append(best_first(scores)[:, 0])
            sure.append(confidence(scores, predicted[-1]))
        return Predictions(
            target=self.y.cpu().numpy(),
            predicted=torch.cat(predicted).cpu().numpy(),
            confidence=torch.cat(sure).cpu().numpy(),
        )


class Run:
    """One context's heads: a single one, or for each rate of a grid two, trained on all images and without held-out."""

    def __init__(
        self, place: int, context: Context, labels: np.ndarray, *, dim: int, seed: int, device: torch.device
    ) -> None:
        self.place, self.context = place, context
        self.style = style_of(context.spec.task).scaled(context.spec.profile)
        self.classes = len(context.root.section("imagenet")["classes"])
        rates = self.style.learning_rates
        self.kept = ~held_out(labels) if len(rates) > 1 else None
        head = functools.partial(Head, self.style, dim=dim, classes=self.classes, seed=seed, device=device)
        self.heads = {rate: head(rate, rows=len(labels)) for rate in rates}
        fewer = len(labels) if self.kept is None else int(self.kept.sum())
        self.choosers = {rate: head(rate, rows=fewer) for rate in (rates if fewer < len(labels) else ())}
        self.history: list[float] = []  # top-1 of the single head after each epoch
        self.best: dict[str, Any] = {}

    @property
    def all_heads(self) -> dict[str, Head]:
        """The heads by their name in a save."""
        return {f"all {rate:g}": one for rate, one in self.heads.items()} | {
            f"chooser {rate:g}": one for rate, one in self.choosers.items()
        }

    def take(self, chunk: Chunk) -> None:
        """Train on a chunk."""
        x, y = chunk.features[self.style.crop_scale], chunk.labels
        for head in self.heads.values():
            head.take(x, y)
        if self.kept is not None:
            rows = torch.from_numpy(np.flatnonzero(self.kept[chunk.rows])).to(x.device, non_blocking=True)
            x, y = x[rows], y[rows]
            for head in self.choosers.values():
                head.take(x, y)

    def end_epoch(self, test: Tested, chosen_on: Tested | None) -> Outcome | None:
        """Test the head; the outcome if this epoch was the last, or the head has diverged."""
        for head in self.all_heads.values():
            head.end_epoch()
        if len(self.heads) > 1 and not self.choosers:
            return InputError(f"{ONE_EACH}: add images, or leave out {self.context.spec.task}")
        if len(self.heads) > 1:
            assert chosen_on is not None
            return self._choose(test, chosen_on) if self._epoch == self.style.epochs else None
        (head,) = self.heads.values()
        if head.diverged:
            return RunError(
                f"the head diverged in epoch {self._epoch}: rate {head.rate:g} is too high for its features"
            )
        top1, top5 = test.top(head)
        self.history.append(top1)
        if self.style.reported == "last" or top1 > self.best.get("top1", -1.0):
            layer = {name: one.clone() for name, one in head.layer.state_dict().items()}
            self.best = {"top1": top1, "top5": top5, "epoch": self._epoch, "layer": layer}
        return self._result(head, test, {}) if self._epoch == self.style.epochs else None

    @property
    def _epoch(self) -> int:
        return next(iter(self.heads.values())).epoch

    def _choose(self, test: Tested, chosen_on: Tested) -> Outcome:
        """The result at the rate whose chooser is the best on the held-out images; the lower rate on a tie."""
        tried = {
            rate: None if head.diverged or self.heads[rate].diverged else chosen_on.top(head)[0]
            for rate, head in self.choosers.items()
        }
        usable = {rate: one for rate, one in tried.items() if one is not None}
        if not usable:
            return RunError(f"the heads diverged at every rate of {', '.join(f'{rate:g}' for rate in tried)}")
        rate = max(usable, key=lambda one: (usable[one], -one))
        head = self.heads[rate]
        top1, top5 = test.top(head)
        self.history = [top1]
        self.best = {"top1": top1, "top5": top5, "epoch": self._epoch, "layer": head.layer.state_dict()}
        grid = [{"learning_rate": one, "held_out_top1": value} for one, value in tried.items()]
        about = {"learning_rate": rate, "tried": grid, "held_out_images": len(chosen_on.y)}
        ends = {min(tried): "smallest", max(tried): "largest"}
        return self._result(head, test, about, f"rate {rate:g} is the {ends[rate]} of its grid" if rate in ends else "")

    def _result(self, head: Head, test: Tested, about: dict[str, Any], note: str = "") -> Result:
        spec, best = self.context.spec, self.best
        head.layer.load_state_dict(best["layer"])
        self._keep(head)
        settings = TASKS[spec.task].settings(Setup(profile=spec.profile))
        chosen = "the best epoch, chosen on the test images"
        notes = [note] if note else []
        return Result(
            metrics={"top1": best["top1"], "top5": best["top5"], "top1_last": self.history[-1]},
            test_images=len(test.y),
            config=settings.values | about | {"top1_by_epoch": self.history, "epoch": best["epoch"]},
            precision=spec.precision,
            notes=tuple([chosen, *notes] if self.style.reported == "best" else notes),
            predictions=test.predictions(head),
        )

    def _keep(self, head: Head) -> None:
        """Write head.safetensors, the reported weights."""
        folder = self.context.folder
        with replacing(folder / "head.safetensors") as partial:
            # save_file would make it readable by its owner alone
            partial.write_bytes(save({name: one.contiguous().cpu() for name, one in head.layer.state_dict().items()}))

    def finish(self, result: Result) -> None:
        """Write the predictions and remove the saves: a full disk has to leave those."""
        if result.predictions:
            result.predictions.save(self.context.folder)
        self.forget(0)

    def saves(self) -> dict[int, Path]:
        """Saved states by the number of chunks taken."""
        return {int(path.stem.split("-")[1]): path for path in sorted(self.context.folder.glob("heads-*.pt"))}

    def usable_saves(self) -> list[int]:
        """Numbers of chunks of the saves that are not damaged, ascending."""
        return [chunks for chunks, path in self.saves().items() if read_save(path, SAVED) is not None]

    def forget(self, chunks: int) -> None:
        """Remove the saves after more than ``chunks`` chunks: newer than others', they would outlive those to come."""
        for taken, path in self.saves().items():
            if taken > chunks:
                path.unlink()

    def save(self, chunks: int) -> None:
        """Save the state after ``chunks`` chunks, and keep KEPT saves."""
        heads = {name: head.state_dict() for name, head in self.all_heads.items()}
        path = self.context.folder / f"heads-{chunks:010d}.pt"
        with replacing(path) as partial:
            torch.save({"heads": heads, "history": self.history, "best": self.best}, partial)
        for old in list(self.saves().values())[:-KEPT]:
            old.unlink()

    def load(self, chunks: int) -> None:
        """Continue from the save after ``chunks`` chunks."""
        state = torch.load(self.saves()[chunks], map_location="cpu", weights_only=True)
        for name, head in self.all_heads.items():
            head.load_state_dict(state["heads"][name])
        self.history, self.best = state["history"], state["best"]


def held_out(labels: np.ndarray) -> np.ndarray:
    """Mask (N,) of HELD_OUT images of each class, or a fifth where that is fewer; drawn by seed 0.

    A class of two images or more gives at least one, a class of one keeps it to be trained on.
    """
    mask = np.zeros(len(labels), dtype=bool)
    generator = np.random.default_rng(0)
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        mask[rows[: min(HELD_OUT, max(1, len(rows) // 5), len(rows) - 1)]] = True
    return mask
