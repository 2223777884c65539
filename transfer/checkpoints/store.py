"""Import each checkpoint once, and find it again by the sha256 of the user's file.

    results/backbones/<identity>/backbone.safetensors   the tensors under torchvision's names
                                 model.pkl              the same under detectron2's names; not for CMC's two encoders
                                 proof.json             a ConvertedWeights, written last
    results/backbones/index/<16 hex of the file's sha256>/<8 hex of the request>.json   the identity and the choices
                      index/seen/<16 hex of path, size, time and inode>.json            the file's sha256

``import_checkpoint`` reads, checks and proves a file. ``find`` imports no torch and ignores missing or
damaged entries; the next import writes them again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pretrain.common.errors import InputError, RunError
from pretrain.common.files import digest, file_sha256, locked, read_mapping, replacing, results_dir, write_json
from pretrain.common.pixels import PixelInput
from transfer.checkpoints import converted
from transfer.checkpoints.converted import STORED_PKL, STORED_TENSORS, ConvertedWeights
from transfer.checkpoints.given import NOTHING_GIVEN, Given
from transfer.checkpoints.reading.file_format import find_checkpoint

if TYPE_CHECKING:
    from transfer.checkpoints.backbone import Backbone

_SETTLED = 2.0  # seconds: within one tick of the file system's clock another file of the same size may replace it
_SIDE_FILES = ("config.json", "preprocessor_config.json", "config.yaml")  # files that families read beside a checkpoint
_hashes: dict[tuple[str, int, int, int], str] = {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredBackbone:
    """An imported checkpoint. ``source`` is the user's file; ``family``, ``network``, ``reason`` say how it was read.

    Files of the same tensors, input and architecture share a folder, and the proof of the first of them.
    """

    folder: Path
    identity: str  # 16 hex digits over the tensors, their PixelInput and the architecture
    sha256: str  # of the tensors, as Backbone.sha256
    architecture: str
    input: PixelInput
    family: str
    network: str  # "" where a family has but one
    reason: str
    source: Path
    detectron2: Path | None  # the .pkl; None for a network that no detector can use, only its features are

    @property
    def weights(self) -> Path:
        """The tensors under torchvision's names."""
        return self.folder / STORED_TENSORS

    @property
    def proof(self) -> ConvertedWeights:
        """The proof of the conversion. RunError if it was removed since."""
        found = converted.load(self.folder / STORED_PKL)
        if found is None:
            raise RunError(f"{self.folder}: its proof.json is missing or damaged; run the same command again")
        return found

    def load(self) -> Backbone:
        """The tensors, compared with ``sha256``. RunError if the stored file is missing or damaged."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from transfer.checkpoints.backbone import Backbone, weights_digest

        try:
            state = load_file(self.weights)
            intact = weights_digest(state) == self.sha256
        except (OSError, SafetensorError):
            intact = False
        if not intact:
            raise RunError(
                f"{self.weights}: missing or damaged; run the same command again to import {self.source} anew"
            )
        proof = self.proof
        return Backbone(
            state=state,
            family=self.family,
            reason=self.reason,
            architecture=self.architecture,
            dropped={name: why for name, why in proof.dropped.items() if name not in state},
            input=self.input,
            sha256=self.sha256,
            meta=proof.meta,
            networks=proof.networks,
            network=self.network,
            given=proof.given,
        )


def import_checkpoint(
    path: Path | str, *, family: str | None = None, network: str | None = None, given: Given = NOTHING_GIVEN
) -> StoredBackbone:
    """The stored backbone of a checkpoint file or a pretraining run's folder, imported now if it is not stored yet.

    Arguments and errors are those of read_backbone; CMC's two encoders are accepted too. Also InputError where
    detectron2 does not compute the same maps, and RunError where the store cannot be written.
    """
    path = find_checkpoint(path)
    entry = _entry(path, family, network, given)
    with locked(entry.parent):
        if found := _read_entry(entry, path):
            return found
        status = path.stat()
        backbone = _read(path, family, network, given)
        if _state_of(path.stat()) != _state_of(status):
            raise InputError(f"{path}: changed while it was read; run the same command again")
        identity = _identity(backbone)
        folder = results_dir() / "backbones" / identity
        with locked(folder):
            if not _intact(folder):
                _write(folder, backbone, path)
        chosen = {"family": backbone.family, "network": backbone.network, "reason": backbone.reason}
        write_json(entry, {"identity": identity, "source": str(path.resolve()), **chosen})
        found = _read_entry(entry, path)
    if found is None:
        raise RunError(f"{folder}: was changed while {path} was imported; run the same command again")
    return found


def find(
    path: Path | str, *, family: str | None = None, network: str | None = None, given: Given = NOTHING_GIVEN
) -> StoredBackbone | None:
    """The result of an earlier ``import_checkpoint`` of the same file and arguments; None if there is none."""
    path = find_checkpoint(path)
    return _read_entry(_entry(path, family, network, given), path)


def tensors_sha256(path: Path) -> str:
    """``StoredBackbone.sha256`` of the file at ``path`` as it is now, read anew. InputError as for an import."""
    return _read(find_checkpoint(path), None, None, NOTHING_GIVEN).sha256


def stored_tensors_sha256(folder: Path) -> str | None:
    """That of the tensors in a folder of the store; None where they are gone or cannot be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from transfer.checkpoints.backbone import weights_digest

    try:
        return weights_digest(load_file(folder / STORED_TENSORS))
    except (OSError, SafetensorError):
        return None


def known_sha256(path: Path) -> str:
    """Sha256 hex of a file's bytes, cached by path, size, time of change and inode."""
    status = path.stat()
    state = (str(path.resolve()), *_state_of(status))
    if state in _hashes:
        return _hashes[state]
    kept = results_dir() / "backbones" / "index" / "seen" / f"{digest(state)[:16]}.json"
    before = read_mapping(kept) or {}
    sha256 = before.get("sha256") if before.get("state") == list(state) else None
    if not isinstance(sha256, str):
        sha256 = file_sha256(path)
        if time.time() - status.st_mtime < _SETTLED:
            return sha256
        with contextlib.suppress(OSError):  # without the cache it is read again
            write_json(kept, {"state": state, "sha256": sha256})
    _hashes[state] = sha256
    return sha256


def _state_of(status: Any) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ino


def _entry(path: Path, family: str | None, network: str | None, given: Given) -> Path:
    """The index file of this request, named by the file's bytes, the arguments, and the files read beside it."""
    names = [*_SIDE_FILES]
    names += ["meta.json"] if path.name == STORED_TENSORS else []
    names += [converted.proof_path(path).name] if path.suffix == ".pkl" else []
    try:
        beside = {name: file_sha256(path.with_name(name)) for name in names if path.with_name(name).is_file()}
        sha256 = known_sha256(path)
    except OSError as error:
        raise InputError(f"{path}: it, or a file beside it, cannot be read ({error.strerror})") from None
    asked = {"family": family, "network": network, "given": given.words(), "beside": beside, "suffix": path.suffix}
    return results_dir() / "backbones" / "index" / sha256[:16] / f"{digest(asked)[:8]}.json"


def _read_entry(entry: Path, path: Path) -> StoredBackbone | None:
    about = read_mapping(entry) or {}
    values = {name: about.get(name) for name in ("identity", "family", "network", "reason")}
    if not all(isinstance(value, str) for value in values.values()):
        return None
    folder = results_dir() / "backbones" / str(values["identity"])
    proof = _intact(folder)
    if proof is None:
        return None
    return StoredBackbone(
        folder=folder,
        sha256=proof.source_sha256,
        architecture=proof.architecture,
        input=proof.input,
        source=path,
        detectron2=proof.path if proof.sha256 else None,
        **{name: str(value) for name, value in values.items()},
    )


def _intact(folder: Path) -> ConvertedWeights | None:
    """The proof of a folder with unchanged files; None if a file is missing or has changed."""
    proof = converted.load(folder / STORED_PKL)
    if proof is None or proof.version != converted.VERSION:
        return None
    expected = {STORED_TENSORS: proof.safetensors_sha256} | ({STORED_PKL: proof.sha256} if proof.sha256 else {})
    try:
        return proof if all(known_sha256(folder / name) == sha256 for name, sha256 in expected.items()) else None
    except OSError:
        return None


def _identity(backbone: Backbone) -> str:
    about = {"sha256": backbone.sha256, "input": backbone.input.identity(), "architecture": backbone.architecture}
    return digest(about)[:16]


def _read(path: Path, family: str | None, network: str | None, given: Given) -> Backbone:
    from transfer.checkpoints.backbone import require_backbone
    from transfer.checkpoints.reading.read import load_checkpoint
    from transfer.checkpoints.two_encoders import read_two_encoders

    file = load_checkpoint(path)
    as_it_is = family is None and network is None and given == NOTHING_GIVEN
    return (read_two_encoders(file) if as_it_is else None) or require_backbone(file, family, network, given)


def _write(folder: Path, backbone: Backbone, path: Path) -> None:
    from safetensors.torch import save_file

    from pretrain.runtime.resume import saving
    from transfer.checkpoints.convert import proof_of, prove
    from transfer.checkpoints.two_encoders import PREFIX

    arrays, difference = prove(backbone, path) if not backbone.architecture.startswith(PREFIX) else ({}, {})
    tensors, pkl = folder / STORED_TENSORS, folder / STORED_PKL
    with saving(folder):
        with replacing(tensors) as temporary:
            save_file({name: tensor.clone() for name, tensor in backbone.state.items()}, temporary)
        sha256 = converted.write_pkl(pkl, converted.pickled(arrays)) if arrays else ""
        proof_of(
            backbone, path, known_sha256(path), pkl, sha256, difference, safetensors_sha256=file_sha256(tensors)
        ).save()
