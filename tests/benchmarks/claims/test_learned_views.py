"""Pictures of learned views: the facts beside them are true, and a run of view-generator is drawn."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks.claims.learned_views import SIDE, determinants, explained, inverse_error, main, shown
from pretrain import train
from pretrain.common.errors import InputError
from pretrain.methods.cmc import CMCConfig
from pretrain.methods.colour_flow import ColourFlow
from pretrain.methods.view_generator import ViewGeneratorConfig
from tests.pretrain.conftest import class_folders, results, tiny  # noqa: F401  # fixtures


@pytest.fixture
def flow():
    torch.manual_seed(0)
    flow = ColourFlow()
    for parameter in flow.parameters():
        nn.init.normal_(parameter, std=0.5)
    return flow


def test_a_generator_is_inverted_and_keeps_the_volume_and_another_map_is_seen_not_to(flow, monkeypatch):
    x = torch.randn(2, 3, 8, 8)
    assert inverse_error(flow, flow(x).detach()) < 1e-4
    pixels = torch.randn(20, 3, dtype=torch.float64)
    torch.testing.assert_close(determinants(flow.double(), pixels), torch.ones(20, dtype=torch.float64))
    twice = nn.Conv2d(3, 3, 1, bias=False, dtype=torch.float64)
    nn.init.zeros_(twice.weight)
    for channel, factor in enumerate((2.0, 3.0, -1.0)):
        twice.weight.data[channel, channel] = factor
    torch.testing.assert_close(determinants(twice, pixels), torch.full((20,), -6.0, dtype=torch.float64))
    monkeypatch.setattr(ColourFlow, "inverse", lambda flow, y: y)
    assert inverse_error(flow.float(), x) > 0.1


def test_the_part_of_view_1_that_a_linear_map_of_view_2_explains():
    two, three, noise = torch.randn(3, 50_000, generator=torch.Generator().manual_seed(0)).view(3, 5, 100, 100)
    for first, expected in (
        (two - 3 * three + 7, 1.0),
        (noise, 0.0),
        (two + noise, 0.5),
        (torch.full_like(two, 2.0), 0.0),
    ):
        assert explained(torch.stack((first, two, three), 1)) == pytest.approx(expected, abs=0.02)


def test_view_1_is_grey_and_view_2_orange_and_blue():
    channels = torch.zeros(2, 3, 4, 4)
    channels[0, 0, 0], channels[1, 1, 1], channels[1, 2, 2] = 5.0, -3.0, 0.1
    first, second = (np.stack([np.asarray(one) for one in view]) for view in shown(channels))
    assert (first[0, 0] == 255).all() and (first[0, 1:] == 0).all() and (first[1] == 0).all()
    assert (second[0] == (255, 128, 0)).all()  # the second channel is at its greatest, the third at its least
    assert (second[1, 2] == (255, 255, 255)).all() and (second[1, 1] == 0).all()


def test_a_run_is_drawn_beside_the_fixed_splits(class_folders, results, tiny, capsys, tmp_path):  # noqa: F811
    config = ViewGeneratorConfig(dim=8, hidden_dim=16, labels=0.5)
    played = train.run("game", dataclasses.replace(tiny, method=config), class_folders)
    assert main([str(played.parent), "--data", str(class_folders), "--count", "3"]) == 0
    said = capsys.readouterr()
    path = results / "claims" / "learned-views.png"
    assert said.out == f"{path}\n"
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in said.err.splitlines() if line[:1] == "|"]
    assert [line[0] for line in lines[2:]] == [
        *("R / GB", "Y / DbDr", "L / ab"),
        f"learned: {played.parent.name} (50 % labels)",
    ]
    assert all(0 <= float(line[1]) <= 1 for line in lines[2:]) and lines[2][2:] == ["", ""]
    assert float(lines[5][2]) < 1e-4 and lines[5][3] == "1.000000 to 1.000000"
    with Image.open(path) as picture:
        assert picture.width >= 900 and picture.height > (1 + 2 * 4) * SIDE
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert (np.ptp(pixels, axis=2) > 30).mean() > 0.02  # colours
    given = tmp_path / "mine.png"
    assert main([str(played), str(played.parent), "--data", str(class_folders / "cat"), "-o", str(given)]) == 0
    assert capsys.readouterr().out == f"{given}\n" and given.is_file()


def test_what_cannot_be_drawn_is_one_line(class_folders, results, tiny, tmp_path):  # noqa: F811
    plain = train.run("plain", dataclasses.replace(tiny, method=CMCConfig(dim=8, negatives=8), steps=1), class_folders)
    for arguments, said in (
        ([], "no RUN: give the folder of a finished"),
        ([str(tmp_path / "none")], "RUN .*none: cannot be read"),
        ([str(plain)], "RUN .*: it has no view generator"),
        ([str(plain), "--count", "0"], "--count"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            main([*arguments, "--data", str(class_folders)])
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="is not a folder"):
        main([str(plain), "--data", str(tmp_path / "none")])
