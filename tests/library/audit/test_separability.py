import numpy as np
import pytest

from deferred import deferred
from leakfree.audit.checks import separability as module

with deferred:
    from sklearn.metrics import roc_auc_score


def test_pairs_are_counted_as_by_definition():
    rng = np.random.default_rng(4)
    for _ in range(20):
        scores = rng.integers(0, 4, (3, 30)) / 7
        truth = rng.random((3, 30)) < 0.4
        truth[:, :2] = [True, False]
        weights = rng.integers(0, 3, (30, 5)).astype(np.float32) + 0.5
        wins, pairs = module._wins(scores, truth)
        for t in range(3):
            assert wins[t] / pairs[t] == pytest.approx(roc_auc_score(truth[t], scores[t]))
            won, of = module._weighted_wins(scores[t], truth[t], weights)
            expected = [roc_auc_score(truth[t], scores[t], sample_weight=w) for w in weights.T]
            assert won / of == pytest.approx(np.array(expected), abs=1e-5)


def test_no_group_is_cut_by_folds_and_labels_move_as_blocks():
    rng = np.random.default_rng(6)
    group = np.unique(rng.integers(0, 90, 300), return_inverse=True)[1]
    label = rng.integers(0, 2, group.max() + 1)[group]
    folds, of_group = module.grouped_folds(group, label, rng)
    assert all(len(set(folds[group == g])) == 1 for g in range(group.max() + 1))
    shares = [label[folds == f].mean() for f in range(5)]
    assert max(shares) - min(shares) < 0.12 and set(folds) == set(range(5))
    donors = module.permuted_rows(group, of_group, 20, rng)
    assert (folds[donors] == folds).all()
    assert (label[donors] != label).any()
    for row in label[donors]:
        assert all(len(set(row[group == g])) == 1 for g in range(group.max() + 1))


def test_resamples_draw_whole_groups():
    group = np.array([0, 0, 1, 2, 2, 2])
    weights = module.group_weights(group, 500, np.random.default_rng(0))
    assert weights.shape == (6, 500)
    assert (weights[0] == weights[1]).all() and (weights[3] == weights[5]).all()
    assert (weights[[0, 2, 3]].sum(axis=0) == 3).all() and weights[0].std() > 0.5
