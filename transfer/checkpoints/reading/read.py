"""Read checkpoint files into plain tensors without running any code from them.

torch files and plain pickles are read with an unpickler that makes none of the calls they ask for (safe_pickle.py,
torch_files.py). Files of other formats are refused in one line that names the format (file_format.py).
``python -m transfer inspect FILE`` shows what is inside.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from pretrain.common.errors import InputError, printable
from pretrain.common.files import read_mapping
from transfer.checkpoints.reading import file_format, torch_files, torch_unpickler
from transfer.checkpoints.reading.detectron2_pkl import first_sentence
from transfer.checkpoints.reading.pickle_values import Inert, PlainArray

MAX_ENTRIES = 3_000_000
MAX_TENSORS = 20_000  # each is compared with the names of all families, about 4 s; a ResNet-152 has 932
MAX_MODULES_DEEP = 100
LARGEST_HEADER = 8 << 20  # bytes of a safetensors file's header, enough for more than MAX_TENSORS
MAX_LETTERS = 1_000_000  # of all tensors' names together
DEPTH = 6  # nested mappings are searched to this depth; the families search five levels


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointFile:
    """The content of a checkpoint file: the top-level mapping, and the meta.json beside it if there is one."""

    path: Path
    content: dict[str, Any]
    meta: dict[str, Any] | None


def load_checkpoint(path: Path | str) -> CheckpointFile:
    """Read a safetensors, torch or pickle file. InputError in one line for any other file, and for one that needs code.

    In the returned content, arrays are tensors, pickled modules are their state dicts, and names are printable.
    """
    path = file_format.find_checkpoint(path)
    readers: dict[str, Callable[[Path], Any]] = {
        file_format.SAFETENSORS: _read_safetensors,
        file_format.TORCH_ZIP: torch_files.read_zip,
        file_format.TORCH_LEGACY: functools.partial(torch_files.read_stream, legacy=True),
        file_format.PICKLE: functools.partial(torch_files.read_stream, legacy=False),
    }
    kind = file_format.kind(path)
    try:
        content = readers[kind](path)
        content = _state_dict(content) or content
        if isinstance(content, Inert):
            of_class = vars(content).get("pickled_class")
            raise InputError(f"holds an object of {of_class}, not a state dict; save model.state_dict() instead")
        if not isinstance(content, dict):
            raise InputError(f"holds a {type(content).__name__}, not a state dict; save model.state_dict()")
        _require_few(content)
        _make_plain(content)
        _require_few(content)  # counts the modules' tensors too
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except MemoryError:
        raise InputError(f"{path}: there is not enough memory to read it") from None
    except Exception as error:  # hostile and damaged files raise many types, and each is the file's fault
        what = (
            "truncated or damaged safetensors file"
            if kind == file_format.SAFETENSORS
            else "truncated, damaged or hostile"
        )
        raise InputError(f"{path}: {what} ({first_sentence(error)})") from None
    return CheckpointFile(path=path, content=content, meta=read_mapping(path.with_name("meta.json")))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
    if LARGEST_HEADER < size < path.stat().st_size:
        raise InputError(f"its header is larger than that of {MAX_TENSORS} tensors, more than any ResNet has; refused")
    return load_file(path)


def _require_few(content: dict[Any, Any]) -> None:
    """InputError where nested mappings have too many entries; a shared entry counts once per mapping that holds it."""
    level, total, tensors, letters = [content], 0, 0, 0
    for _ in range(DEPTH):
        total += sum(map(len, level))
        if total > MAX_ENTRIES:
            raise InputError(f"its mappings have more than {MAX_ENTRIES} entries; refused")
        found = [key for mapping in level for key, value in mapping.items() if isinstance(value, (Tensor, PlainArray))]
        tensors += len(found)
        letters += sum(len(key) for key in found if isinstance(key, str))
        if tensors > MAX_TENSORS or letters > MAX_LETTERS:
            raise InputError(f"it holds more than {MAX_TENSORS} tensors or longer names than any ResNet's; refused")
        level = [value for mapping in level for value in mapping.values() if isinstance(value, dict)]


def _make_plain(content: dict[Any, Any]) -> None:
    """Turn arrays into tensors, pickled modules into their state dicts, and unprintable names into escapes."""
    level, seen = [content], set()
    made: dict[int, Any] = {}  # by id, since one array or module can have thousands of names; all outlive this walk
    for _ in range(DEPTH):
        for mapping in level:
            for key, value in mapping.items():
                if isinstance(value, PlainArray | Inert):
                    if id(value) not in made:
                        made[id(value)] = _plain(value)
                    mapping[key] = made[id(value)]
            if any(isinstance(key, str) and not key.isprintable() for key in mapping):
                entries = {printable(key) if isinstance(key, str) else key: value for key, value in mapping.items()}
                mapping.clear()
                mapping.update(entries)
        seen |= {id(mapping) for mapping in level}
        level = [value for mapping in level for value in mapping.values() if isinstance(value, dict)]
        level = list({id(mapping): mapping for mapping in level if id(mapping) not in seen}.values())


def _plain(value: PlainArray | Inert) -> Any:
    return torch_unpickler.to_tensor(value) if isinstance(value, PlainArray) else _state_dict(value) or value


def _state_dict(module: Any) -> dict[str, Tensor] | None:
    """The state_dict() of a pickled module, from the attributes of every torch.nn.Module; None for other objects."""
    if not _is_module(module):
        return None
    found: dict[str, Tensor] = {}
    todo, count, letters = [("", module)], 0, 0
    while todo:
        prefix, module = todo.pop()
        inside = vars(module)
        listed = inside.get("_non_persistent_buffers_set", ())
        hidden = {name for name in listed if isinstance(name, str)}
        buffers = {name: value for name, value in inside.get("_buffers", {}).items() if name not in hidden}
        tensors = inside["_parameters"] | buffers
        names = [name for name in (*tensors, *inside["_modules"]) if isinstance(name, str)]
        letters += sum(len(prefix) + len(name) for name in names)
        if letters > MAX_LETTERS or len(names) < len(tensors) + len(inside["_modules"]):
            raise InputError("its pickled module has names that no network has; refused")
        found |= {f"{prefix}{name}": value for name, value in tensors.items() if isinstance(value, Tensor)}
        children = [(f"{prefix}{name}.", child) for name, child in inside["_modules"].items() if _is_module(child)]
        todo += reversed(children)
        count += 1 + len(tensors) + len(listed)
        if count > MAX_ENTRIES // 10 or prefix.count(".") > MAX_MODULES_DEEP:
            raise InputError("its pickled module has more parts than any network; refused")
    return found


def _is_module(value: Any) -> bool:
    inside = vars(value) if isinstance(value, Inert) else {}
    return all(isinstance(inside.get(name), dict) for name in ("_parameters", "_modules"))
