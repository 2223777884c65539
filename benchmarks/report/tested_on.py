"""The data that a run was tested on, as long as they are there and are the same. Imports no torch."""

from __future__ import annotations

from benchmarks.data.root import DataRoot
from benchmarks.records import RunRecord
from benchmarks.tasks import TASKS
from pretrain.common.errors import InputError
from pretrain.common.files import data_dir


def root_of(record: RunRecord) -> DataRoot:
    """The data that the record was tested on. InputError if they were prepared anew since, or are gone."""
    task, place = TASKS[record.spec.task], data_dir() / record.spec.data_name
    if not place.is_dir():
        raise InputError(f"{place} is not there, the data of this run: prepare them again, or link their root there")
    root = DataRoot.load(place)
    there, wanted = task.data_fingerprint(root), record.spec.data_fingerprint
    if there != wanted:
        raise InputError(
            f"{root.path} was prepared again since this run: it holds data {there[:8]}, the run was tested on "
            f"{wanted[:8]}: prepare those again, or show a run on the present data"
        )
    return root
