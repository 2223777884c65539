"""BYOL's checkpoint: google-deepmind/deepmind-research:byol/utils/checkpointing.py, byol/byol_experiment.py.

dill writes a pickle of protocol 2 that names classes of byol and haiku. Neither is installed here: stand-ins of the
same module and name are put in their place while it is written. Module names are as haiku makes them of networks.py.
"""

import pickle
import sys
import types
from collections import namedtuple

import numpy as np

State = namedtuple("_ByolExperimentState", "online_params target_params online_state target_state opt_state")
State.__module__ = "byol.byol_experiment"


class FlatMapping:
    """Pickled as haiku's: the class, called with a dict."""

    def __init__(self, mapping):
        self.mapping = mapping

    def __reduce__(self):
        return FlatMapping, (self.mapping,)


FlatMapping.__module__ = "haiku._src.data_structures"


def _module(name):
    """torchvision's module → haiku's."""
    if not name.startswith("layer"):
        return "res_net50/~/initial_" + {"conv1": "conv", "bn1": "batchnorm"}[name]
    stage, block, kind, *number = name.removeprefix("layer").split(".")
    if kind == "downsample":
        inner = ("shortcut_conv", "shortcut_batchnorm")[int(number[0])]
    else:
        inner = f"{'conv' if kind.startswith('conv') else 'batchnorm'}_{int(kind[-1]) - 1}"
    return f"res_net50/~/block_group_{int(stage) - 1}/~/block_{block}/~/{inner}"


def _trees(state):
    """Parameters and state, their modules sorted by name as in a released file, the first convolution last."""
    params, averages = {"projector/linear": {"w": np.zeros((4, 4), np.float32)}}, {}
    for name, value in state.items():
        module, _, tensor = name.rpartition(".")
        array, place = value.numpy(), _module(module)
        if value.dim() == 4:
            params[place] = {"w": array.transpose(2, 3, 1, 0).copy()}
        elif tensor in ("weight", "bias"):
            params.setdefault(place, {})["scale" if tensor == "weight" else "offset"] = array.reshape(1, 1, 1, -1)
        elif tensor in ("running_mean", "running_var"):
            hidden = {
                "average": array.reshape(1, 1, 1, -1),
                "counter": np.array(9),
                "hidden": array.reshape(1, 1, 1, -1) / 2,
            }
            averages[f"{place}/~/{tensor.removeprefix('running_')}_ema"] = hidden
    return FlatMapping(dict(sorted(params.items()))), FlatMapping(dict(sorted(averages.items())))


def write(path, online, target, dumps=pickle.dumps):
    """The file whose online network is ``online`` (under torchvision's names). BYOL's own ``dumps`` is dill's."""
    (params, state), (target_params, target_state) = _trees(online), _trees(target)
    experiment = State(params, target_params, state, target_state, FlatMapping({"m": {"w": np.zeros(1, np.float32)}}))
    content = {"experiment_state": experiment, "step": 1000, "rng": np.zeros(2, np.uint32)}
    stand_ins = {cls.__module__: types.ModuleType(cls.__module__) for cls in (State, FlatMapping)}
    for cls in (State, FlatMapping):
        setattr(stand_ins[cls.__module__], cls.__name__, cls)
    parents = {name.partition(".")[0]: types.ModuleType(name) for name in stand_ins} | {
        "haiku._src": types.ModuleType("h")
    }
    sys.modules.update(parents | stand_ins)
    try:
        path.write_bytes(dumps(content, protocol=2))
    finally:
        for name in (*parents, *stand_ins):
            del sys.modules[name]
