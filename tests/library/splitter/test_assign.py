"""Parts get their share of images and classes, groups stay whole, and scikit-learn does no better."""

import numpy as np
import pytest

from deferred import deferred

with deferred:
    from sklearn.model_selection import StratifiedGroupKFold

    from leakfree.splitter.assign import _cost, _make_up, assign


def cohort(seed, n_groups=300, classes=3, most=12):
    """Groups of very different sizes, one or two classes each."""
    rng = np.random.default_rng(seed)
    groups, labels = [], []
    for group in range(n_groups):
        size = int(np.ceil(most * rng.random() ** 3))
        groups += [group] * size
        labels += [f"class {value}" for value in rng.choice(classes, size, p=rng.dirichlet([0.3] * classes))]
    return np.array(groups), np.array(labels, dtype=object)


def deviation(labels, parts, shares):
    """Largest difference between the share of a class in a part and in all, and of a part and its share."""
    classes = np.unique(labels)
    overall = np.array([(labels == name).mean() for name in classes])
    there = [
        np.array([(labels[parts == part] == name).mean() for name in classes]) for part in range(len(shares))
    ]
    sizes = [abs((parts == part).mean() - share) for part, share in enumerate(shares)]
    return max(np.abs(found - overall).max() for found in there), max(sizes)


@pytest.mark.parametrize("shares", [(0.7, 0.15, 0.15), (0.8, 0.2), (0.2,) * 5])
def test_no_group_is_divided_and_every_part_has_its_share(shares):
    groups, labels = cohort(1)
    parts = assign(groups, [labels], shares, seed=4)
    assert all(len(set(parts[groups == group])) == 1 for group in np.unique(groups))
    of_classes, of_sizes = deviation(labels, parts, shares)
    assert of_classes < 0.01 and of_sizes < 0.005


def test_folds_are_nearer_to_the_class_shares_than_those_of_scikit_learn():
    mine, theirs = [], []
    for seed in range(5):
        groups, labels = cohort(seed)
        mine.append(sum(deviation(labels, assign(groups, [labels], (0.2,) * 5, seed=seed), (0.2,) * 5)))
        folds = np.empty(len(groups), dtype=int)
        splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        for fold, (_, test) in enumerate(splitter.split(groups, labels, groups)):
            folds[test] = fold
        theirs.append(sum(deviation(labels, folds, (0.2,) * 5)))
    assert np.mean(mine) < np.mean(theirs)


def test_a_second_stratum_is_balanced_too():
    groups, labels = cohort(2)
    site = np.array([f"site {group % 4}" for group in groups], dtype=object)
    shares = (0.5, 0.25, 0.25)
    with_it = deviation(site, assign(groups, [labels, site], shares, seed=0), shares)[0]
    without = deviation(site, assign(groups, [labels], shares, seed=0), shares)[0]
    assert with_it < 0.02 < without


def test_the_seed_decides_and_nothing_else():
    groups, labels = cohort(3)
    one, two = (assign(groups, [labels], (0.7, 0.3), seed=seed) for seed in (1, 2))
    assert (one == assign(groups, [labels], (0.7, 0.3), seed=1)).all() and (one != two).any()


def test_small_cases_are_as_good_as_the_best_of_all():
    as_good = 0
    for seed in range(20):
        groups, labels = cohort(seed, n_groups=7, classes=2, most=4)
        shares = np.array([0.6, 0.4])
        kinds = _make_up(groups, 7, [labels])
        wanted = shares[:, None] * kinds.sum(axis=0)

        def cost(part_of_group, kinds=kinds, wanted=wanted):
            placed = np.stack([part_of_group == 0, part_of_group == 1], axis=1).astype(int)
            return _cost(placed, kinds, wanted)

        best = min(cost(np.array([number >> bit & 1 for bit in range(7)])) for number in range(2**7))
        parts = assign(groups, [labels], shares, seed=seed)
        mine = cost(np.array([parts[groups == group][0] for group in range(7)]))
        as_good += mine <= best + 1e-9
    assert as_good >= 19


def test_without_strata_only_the_sizes_count():
    groups, _ = cohort(5)
    assert deviation(groups * 0, assign(groups, [], (0.9, 0.1), seed=0), (0.9, 0.1))[1] < 0.001
