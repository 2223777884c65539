"""The name table of every architecture: one to one, total, and far from every name that is nearly one of its own."""

import string

import hypothesis
from hypothesis import strategies as st
from torchvision.models import get_model

from transfer.checkpoints import key_map

ARCHITECTURES = st.sampled_from(list(key_map.BLOCKS))


@st.composite
def places(draw):
    """An architecture and one of its names."""
    architecture = draw(ARCHITECTURES)
    return architecture, draw(st.sampled_from(list(key_map.to_detectron2(architecture))))


@hypothesis.given(places())
def test_there_and_back(place):
    architecture, theirs = place
    ours = key_map.to_detectron2(architecture)[theirs]
    assert key_map.to_torchvision(architecture)[ours] == theirs


@hypothesis.given(ARCHITECTURES, st.data())
def test_no_two_names_meet(architecture, data):
    table = key_map.to_detectron2(architecture)
    one, other = data.draw(st.lists(st.sampled_from(list(table)), min_size=2, max_size=2, unique=True))
    assert table[one] != table[other]


@hypothesis.given(places(), st.integers(0, 60), st.sampled_from(string.printable), st.integers(0, 2))
def test_a_name_with_one_character_changed_is_another_of_the_table_or_none(place, position, character, cut):
    architecture, name = place
    changed = name[:position] + character + name[position + cut :]
    hypothesis.assume(changed != name)
    table = key_map.to_detectron2(architecture)
    assert table.get(changed) != table[name]


@hypothesis.given(ARCHITECTURES)
@hypothesis.settings(max_examples=10, deadline=None)
def test_total(architecture):
    import torch

    with torch.device("meta"):
        state = get_model(architecture, weights=None).state_dict()
    wanted = {name for name in state if not name.startswith("fc.")}
    assert set(key_map.to_detectron2(architecture)) | set(key_map.counters(architecture)) == wanted


@hypothesis.given(ARCHITECTURES, st.data())
@hypothesis.settings(deadline=None)
def test_the_nearest_architecture_survives_a_lost_name(architecture, data):
    found = set(key_map.to_torchvision(architecture))
    lost = data.draw(st.sampled_from(sorted(found)))
    assert key_map.nearest(found - {lost}) == architecture
