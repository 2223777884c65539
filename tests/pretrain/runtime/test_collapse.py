"""When collapse has the lower loss, in closed form, and the table of docs/information.md that says so.

SuperInfo's vmf form with λa = λb = λ, for N images whose mean directions μ1 are spread evenly over the sphere, each
with its μ2 at cosine c, against the collapse to a single μ.
"""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from pretrain.information import objectives, superfluous, vmf
from tests.pretrain.conftest import directions

PAGE = (Path(__file__).parents[3] / "docs" / "information.md").read_text(encoding="utf-8")
KAPPA_E = 1024.0
CSIMCLR, DEMO = (256, 10.0), (128, 5.0)  # d, κb


def spread_out(n, weight, c, d, kappa_b):
    """(contrast, weighted superfluous excess) of embeddings that fill the sphere, in nats."""
    pull = kappa_b * vmf.mean_resultant(d, KAPPA_E)  # of the positives, at c = 1
    uniform = math.lgamma(d / 2) - math.log(2) - d / 2 * math.log(math.pi)  # the log density on the whole sphere
    noise = uniform - vmf.log_normaliser(d, kappa_b)  # log E exp(κb z·μ) for negatives μ anywhere, about κb²/2d
    return math.log1p((2 * n - 2) * math.exp(noise - pull * c)), 2 * weight * pull * (1 - c)


def collapse_is_better_below(n, weight, d, kappa_b):
    """The positive cosine at which both have the same loss; collapse has log(2N−1) and no excess."""
    low, high = 0.0, 1.0
    for _ in range(60):
        c = (low + high) / 2
        low, high = (c, high) if sum(spread_out(n, weight, c, d, kappa_b)) > math.log(2 * n - 1) else (low, c)
    return high


def pairs(n, c, d, seed):
    """(n, d) unit vectors μ1 anywhere on the sphere and μ2 with μ1·μ2 = c."""
    mu1, other = directions(n, d, 2, seed=seed)
    side = F.normalize(other - (other * mu1).sum(1, keepdim=True) * mu1, dim=1)
    return mu1, c * mu1 + math.sqrt(1 - c**2) * side


@pytest.mark.parametrize(("n", "d", "kappa_b"), [(64, *DEMO), (64, *CSIMCLR), (1024, *CSIMCLR)])
@pytest.mark.parametrize("c", [0.0, 0.5, 0.9])
def test_the_closed_form_contrast_is_that_of_drawn_embeddings(n, d, kappa_b, c):
    torch.manual_seed(0)
    drawn = []
    for seed in range(4096 // n):
        mu1, mu2 = pairs(n, c, d, seed)
        z1, z2 = vmf.sample(mu1, KAPPA_E), vmf.sample(mu2, KAPPA_E)
        drawn.append(float(objectives.nt_xent(z1, z2, 1 / kappa_b, keys=(mu1, mu2))[0]))
    assert sum(drawn) / len(drawn) == pytest.approx(spread_out(n, 0.0, c, d, kappa_b)[0], abs=0.02)


def test_the_closed_form_excess_is_that_of_drawn_embeddings_and_collapse_has_none():
    torch.manual_seed(0)
    for c in (0.2, 1.0):
        mu1, mu2 = pairs(40_000, c, *DEMO[:1], seed=0)
        s12 = float(superfluous.cross_view_vmf(vmf.sample(mu1, KAPPA_E), mu1, mu2, KAPPA_E, DEMO[1]))
        excess = s12 - superfluous.cross_view_vmf_floor(DEMO[0], KAPPA_E, DEMO[1])
        assert excess == pytest.approx(spread_out(64, 0.5, c, *DEMO)[1], abs=0.15)
    mu = directions(1, DEMO[0], 1)[0].expand(64, -1)
    loss, _ = objectives.nt_xent(vmf.sample(mu, KAPPA_E), vmf.sample(mu, KAPPA_E), 1 / DEMO[1], keys=(mu, mu))
    assert float(loss) == pytest.approx(math.log(127))


def test_the_table_of_the_page():
    """λ down, settings and batch across. The batch moves the cosine by 0.06 or less, the weight by 0.7."""
    table = PAGE.partition("| λ | κb 10, d 256: N 64 |")[2].partition("\n\n")[0].splitlines()[2:]
    rows = {cells[0]: cells[1:] for cells in ([cell.strip() for cell in line.strip("|").split("|")] for line in table)}
    assert list(rows) == ["1", "0.5", "0.3", "0.1", "0.01"]
    for weight, cells in rows.items():
        settings = [(64, CSIMCLR), (256, CSIMCLR), (4096, CSIMCLR), (64, DEMO)]
        found = [collapse_is_better_below(n, float(weight), *form) for n, form in settings]
        assert cells == [f"{c:.2f}" for c in found]


def test_many_negatives_leave_the_weight_alone():
    """Without the 1 in log(1 + …) and the negatives' noise, collapse is better below 2λ/(1 + 2λ), whatever N is."""
    for weight in (0.01, 0.1, 0.5, 1.0):
        found = collapse_is_better_below(10**6, weight, *CSIMCLR)
        assert found == pytest.approx(2 * weight / (1 + 2 * weight), abs=0.025)
