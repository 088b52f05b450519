"""Cutting images out anew: what is drawn, and what never is. When training asks: `test_training.py`."""

from deferred import deferred

with deferred:
    import torch

    from leakfree.models.reframing import ASPECT, SHIFT, ZOOMS, reframe

BLACK = -2.0


def drawn(x, seed=0, exposure=0.0):
    return reframe(x, torch.Generator().manual_seed(seed), BLACK, exposure)


def square(n=400, side=96, inner=48):
    """White squares in the middle of a grey image."""
    x = torch.full((n, 1, side, side), 0.0)
    start = (side - inner) // 2
    x[:, 0, start : start + inner, start : start + inner] = 10.0
    return x


def test_the_given_images_and_the_global_generator_are_left_alone():
    x = torch.rand(5, 1, 24, 24)
    before, state = x.clone(), torch.get_rng_state()
    y = drawn(x)
    assert y.shape == x.shape
    assert torch.equal(x, before)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(y, drawn(x))
    assert not torch.equal(y, drawn(x, seed=1))
    assert not torch.allclose(y[0], drawn(x[:1].expand(5, -1, -1, -1))[1], atol=1e-3)


def test_zooms_reach_both_ends_and_sides_are_zoomed_apart():
    white = drawn(square())[:, 0] > 5
    area = white.sum(dim=(1, 2)).float()
    whole = area[area > 0]
    zoom = (whole / 48**2).sqrt()
    assert zoom.min() > ZOOMS[0] * 0.7  # a crop may cut the square at the edge
    assert zoom.quantile(0.02) < ZOOMS[0] * 1.1
    assert ZOOMS[1] * 0.9 < zoom.max() < ZOOMS[1] * 1.05
    # Without rotation a row's width over a column's height is the factor between the sides.
    inside = white[(white.sum(dim=(1, 2)) > 100)]
    wide, high = inside.any(dim=1).sum(dim=1).float(), inside.any(dim=2).sum(dim=1).float()
    ratio = wide / high
    assert ratio.quantile(0.95) > 1.05
    assert ratio.median() > 0.95
    assert ratio.median() < 1.05
    assert ASPECT > 1.05


def test_what_is_bared_is_black_and_only_small_images_bare_much():
    y = drawn(torch.full((300, 1, 32, 32), 1.0))
    bared = (y < BLACK + 1e-4).float().mean(dim=(1, 2, 3))
    assert torch.isfinite(y).all()
    assert y.min() >= BLACK - 1e-5
    assert y.max() <= 1 + 1e-5
    assert bared.max() < 1 - (ZOOMS[0] / ASPECT) ** 2 + 4 * SHIFT + 0.1
    assert 0.1 < (bared > 0.2).float().mean() < 0.7


def test_it_never_mirrors():
    x = torch.zeros(300, 1, 64, 64)
    x[:, 0, 24:40, 16:24] = 10.0  # left
    x[:, 0, 24:40, 40:48] = 5.0  # right
    y = drawn(x)[:, 0]
    left, right = (y > 8).float(), ((y > 3) & (y < 6)).float()
    both = (left.sum(dim=(1, 2)) > 20) & (right.sum(dim=(1, 2)) > 20)
    column = torch.arange(64.0)
    place = [(part.sum(dim=1) @ column) / part.sum(dim=(1, 2)) for part in (left[both], right[both])]
    assert both.sum() > 100
    assert ((place[1] - place[0]) > 0).float().mean() > 0.99


def test_exposure_is_changed_as_much_as_is_asked():
    x = torch.ones(400, 1, 8, 8)
    still = drawn(x)[:, 0, 4, 4]
    y = drawn(x, exposure=0.3)[:, 0, 4, 4]
    seen = still > 0.99
    assert 0.4 - 1e-6 <= float(y[seen].min()) < 0.55
    assert 1.45 < float(y[seen].max()) <= 1.6 + 1e-6
