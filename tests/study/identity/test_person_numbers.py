import numpy as np
import pandas as pd
import pytest

from leakfree_study.identity.person_numbers import collisions, counters, likeness

FOLDERS = {"bacteria": "bacterial", "virus": "viral"}


def cohort_rows(images, part="train"):
    """Rows as a cohort has them, of (etiology, person number, running number) images."""
    return pd.DataFrame(
        {
            "image_id": [f"{part}/PNEUMONIA/person{n}_{e}_{r}.jpeg" for e, n, r in images],
            "label": [FOLDERS[e] for e, _, _ in images],
            "part": part,
            "person_num": pd.array([None] * len(images), dtype="Int64"),
        }
    )


def separate_counters(persons=400, seed=0):
    """Each etiology counts its own persons and images; one person in five is dropped, images and all."""
    rng = np.random.default_rng(seed)
    images = []
    for etiology in FOLDERS:
        running = 0
        for number in range(1, persons + 1):
            kept = rng.random() < 0.8
            for _ in range(rng.integers(1, 4)):
                running += 1
                images += [(etiology, number, running)] if kept else []
    return images


def shared_children(children=400, seed=0):
    """One counter of children, one of images; a child has bacterial images, viral ones, or both."""
    rng = np.random.default_rng(seed)
    images = []
    for number in range(1, children + 1):
        for etiology in (["bacteria"], ["virus"], ["bacteria", "virus"])[rng.choice(3, p=[0.4, 0.4, 0.2])]:
            images += [(etiology, number, len(images) + 1 + extra) for extra in range(rng.integers(1, 4))]
    return images


def child_features(images, own, seed=0, d=60):
    """Noise and a direction of the child; `own` tells which images are one child's."""
    rng = np.random.default_rng(seed)
    children = {}
    return np.array([children.setdefault(own(f), rng.normal(size=d)) + rng.normal(size=d) for f in images])


def row(frame, **where):
    chosen = frame
    for column, value in where.items():
        chosen = chosen[chosen[column] == value]
    assert len(chosen) == 1
    return chosen.iloc[0]


def test_separate_counters_advance_alone_and_not_pooled():
    table = counters(cohort_rows(separate_counters()))
    assert table[["part", "etiology"]].to_numpy().tolist() == [
        [part, etiology] for part in ("train", "all") for etiology in ("bacteria", "virus", "pooled")
    ]
    for etiology in FOLDERS:
        found = row(table, part="all", etiology=etiology)
        assert found["spearman"] == pytest.approx(1, abs=1e-3)
        assert found["share_rising"] == 1
        assert found["running_repeated"] == 0
        assert found["steps_with_room"] == 0
        assert found["skips_with_room"] == 1, "who is missing left images behind in the counter of images"
    pooled = row(table, part="all", etiology="pooled")
    assert pooled["share_rising"] < 0.6
    assert pooled["running_repeated"] > 0.5


def test_shared_children_advance_pooled_too():
    table = counters(cohort_rows(shared_children()))
    pooled = row(table, part="all", etiology="pooled")
    assert pooled["share_rising"] == 1
    assert pooled["running_repeated"] == 0
    assert pooled["numbers"] == 400


def test_a_counter_of_children_leaves_no_room_for_images():
    """Children are counted once, images by etiology: only the skips tell this from separate counters."""
    images = pd.DataFrame(shared_children(), columns=["etiology", "number", "running"])
    images["running"] = images.groupby("etiology").cumcount() + 1
    table = counters(cohort_rows(list(images.itertuples(index=False))))
    for etiology in FOLDERS:
        found = row(table, part="all", etiology=etiology)
        assert found["share_rising"] == 1
        assert found["skips"] > 50
        assert found["skips_with_room"] == 0


def test_counters_by_hand():
    images = [("bacteria", 2, 10), ("bacteria", 2, 12), ("bacteria", 3, 13), ("bacteria", 6, 15)]
    images += [("bacteria", 7, 14), ("bacteria", 9, 14), ("bacteria", 11, 16)]
    table = pd.concat(
        [
            cohort_rows(images),
            cohort_rows([("virus", 4, 9)], part="test"),
            pd.DataFrame(
                {"image_id": ["train/NORMAL/IM-0115-0001.jpeg"], "label": "normal", "part": "train"}
            ),
        ]
    )
    # An appendix behind the running number is no part of it, and a sealed label is not needed.
    table["image_id"] = table["image_id"].str.replace("_16.jpeg", "_16_1.jpeg")
    table.loc[table["part"] == "test", "label"] = "sealed"
    table = counters(table)
    assert table[["part", "etiology"]].to_numpy().tolist() == [
        *[["train", "bacteria"], ["train", "pooled"], ["test", "virus"], ["test", "pooled"]],
        *[["all", "bacteria"], ["all", "virus"], ["all", "pooled"]],
    ]
    found = row(table, part="train", etiology="bacteria")
    assert found["files":"highest"].tolist() == [7, 6, 2, 11]
    ranks = np.corrcoef([1.5, 1.5, 3, 4, 5, 6, 7], [1, 2, 3, 6, 4.5, 4.5, 7])[0, 1]
    assert found["spearman"] == pytest.approx(ranks)
    assert found["share_rising"] == pytest.approx(3 / 5)  # not 6 to 7 nor 7 to 9
    assert found["running_repeated"] == pytest.approx(2 / 7)
    assert found["steps"] == 2
    assert found["steps_with_room"] == 0
    assert found["skips"] == 3  # 4 and 5 are missing with one image; 8 without; 10 with one
    assert found["skips_with_room"] == pytest.approx(1 / 3)
    lone = row(table, part="test", etiology="virus")
    assert lone[["spearman", "share_rising", "skips_with_room"]].isna().all()


@pytest.mark.parametrize("null", ["range", "windows", "shifts"])
def test_separate_counters_collide_by_chance(null):
    found = collisions(cohort_rows(separate_counters()), n_permutations=2000)
    for part in ("all", "train"):
        chosen = row(found, part=part, null=null)
        assert chosen["low"] <= chosen["observed"] <= chosen["high"]
        assert min(chosen["p_more"], chosen["p_fewer"]) > 0.025
        assert chosen["expected"] == pytest.approx(chosen["bacteria"] * chosen["virus"] / 400, rel=0.03)


@pytest.mark.parametrize("null", ["range", "windows", "shifts"])
def test_one_counter_of_children_does_not_collide_by_chance(null):
    chosen = row(collisions(cohort_rows(shared_children()), n_permutations=2000), part="all", null=null)
    assert chosen["observed"] < chosen["low"]
    assert chosen["p_fewer"] < 0.02
    both = [f for f in separate_counters() if f[0] == "bacteria"]
    both += [("virus", *f[1:]) for f in both if f[1] % 7]
    chosen = row(collisions(cohort_rows(both), n_permutations=2000), part="all", null=null)
    assert chosen["observed"] > chosen["high"]
    assert chosen["p_more"] < 0.02


def test_a_gap_in_common_is_no_sharing():
    images = [image for image in separate_counters() if not 101 <= image[1] <= 250]
    found = collisions(cohort_rows(images), n_permutations=2000)
    assert row(found, part="all", null="range")["p_more"] < 1e-6, "the plain null is fooled"
    assert row(found, part="all", null="windows")["p_more"] > 0.025


def test_collisions_by_hand():
    images = [("bacteria", n, n) for n in (1, 5, 6, 8)] + [("virus", n, n) for n in (4, 5, 8, 30)]
    table = pd.concat([cohort_rows(images), cohort_rows([("virus", 6, 9)], part="test")])
    found = collisions(table, n_permutations=20_000)
    assert found["null"].tolist() == ["range", "windows", "shifts"] * 2
    chosen = row(found, part="all", null="range")
    assert chosen["lowest":"observed"].tolist() == [4, 8, 3, 4, 3]
    assert chosen["expected"] == pytest.approx(12 / 5)
    assert chosen["p_more"] == pytest.approx(2 / 5)  # all three bacterial ones among four of five
    assert chosen["p_fewer"] == pytest.approx(1)
    windows = row(found, part="all", null="windows")  # one window: the same law
    assert windows["expected"] == pytest.approx(12 / 5, abs=0.02)
    assert windows["p_more"] == pytest.approx(2 / 5, abs=0.02)
    # viral 0 1 2 4 of 0 to 4, bacterial 1 2 4: moved by 1 and by -4 it hits 1 and 2, and so on
    moved = [len({(n + lag) % 5 for n in (0, 1, 2, 4)} & {1, 2, 4}) for lag in (1, 2, 3, 4)] * 2
    assert row(found, part="all", null="shifts")["expected"] == pytest.approx(np.mean(moved))
    assert row(found, part="train", null="range")["observed"] == 2


def test_likeness_tells_shared_children_from_separate_ones():
    images = shared_children(600)
    table = cohort_rows(images)
    apart = likeness(table, child_features(images, own=lambda image: image[:2]), n_resamples=300)
    shared = likeness(table, child_features(images, own=lambda image: image[1]), n_resamples=300)
    for found in (apart, shared):
        assert row(found, pairs_of="same series")["low"] > 0.9
        for control in ("same series, next number", "across, next number"):
            assert row(found, pairs_of=control)["percentile"] == pytest.approx(0.5, abs=0.05)
    assert row(apart, pairs_of="across, same number")["percentile"] == pytest.approx(0.5, abs=0.05)
    assert row(shared, pairs_of="across, same number")["low"] > 0.9


def test_likeness_by_hand():
    """Every percentile by the slow way round."""
    rng = np.random.default_rng(3)
    numbers = rng.integers(1, 9, 60).tolist()
    images = [(("bacteria", "virus")[i % 2], number, i) for i, number in enumerate(numbers)]
    features = rng.normal(size=(60, 5)) * [1, 10, 1, 0, 3] + 7
    unit = np.delete(features, 3, axis=1)
    unit = (unit - unit.mean(axis=0)) / unit.std(axis=0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)

    def expected(same_series, shift):
        units = {}
        for i, (e, n, _) in enumerate(images):
            for j, (f, m, _) in enumerate(images):
                if i == j or (e == f) != same_series:
                    continue
                # the partner is one further: viral after bacterial, or either image of one series
                ahead = {m - n, n - m} if same_series else {m - n if f == "virus" else n - m}
                if shift in ahead:
                    rivals = [k for k in range(60) if images[k][0] == f and k not in (i, j)]
                    less = np.mean([unit[i] @ unit[k] < unit[i] @ unit[j] for k in rivals])
                    units.setdefault((e if same_series else "", min(n, m)), []).append(less)
        pairs = sum(map(len, units.values())) / 2
        return [len(units), pairs, np.mean([np.mean(values) for values in units.values()])]

    table = cohort_rows(images)
    table.index = np.arange(60)[::-1]  # features follow the rows, not the index
    found = likeness(table, features, n_resamples=50)
    wanted = [expected(*how) for how in [(True, 0), (True, 1), (False, 0), (False, 1)]]
    got = found[["numbers", "pairs", "percentile"]].to_numpy()
    assert np.allclose(got, wanted, atol=1e-6)
    assert (found["low"] < found["percentile"]).all()
    assert (found["percentile"] < found["high"]).all()
    pd.testing.assert_frame_equal(found, likeness(table, features, n_resamples=50))


def test_a_number_counts_once():
    """A child with many images that look alike does not outvote the others."""
    images = [("bacteria", 1, i) for i in range(12)] + [("bacteria", 2 + i // 2, 12 + i) for i in range(40)]
    features = np.random.default_rng(0).normal(size=(52, 30))
    features[:12] += 5
    found = row(likeness(cohort_rows(images), features, n_resamples=100), pairs_of="same series")
    assert found["numbers"] == 21
    assert found["pairs"] == 66 + 20
    assert found["percentile"] < 0.72, "0.83 with every pair counted once"


def test_equal_images_are_neither_more_nor_less_alike():
    images = [(e, n, n) for e in FOLDERS for n in range(1, 30)]
    found = likeness(cohort_rows(images), np.ones((58, 4)), n_resamples=20)
    assert found.loc[found["pairs"] > 0, "percentile"].tolist() == [0.5] * 3
    none = row(found, pairs_of="same series")
    assert none[["numbers", "pairs"]].tolist() == [0, 0]
    assert none["percentile":].isna().all()
    one = row(likeness(cohort_rows(images[:1] * 3), np.eye(3), n_resamples=20), pairs_of="same series")
    assert one[["numbers", "pairs"]].tolist() == [1, 3]
    assert one[["low", "high"]].isna().all(), "no interval from one number"


def test_sealed_images_are_not_looked_at():
    images = separate_counters(30)
    table = cohort_rows(images)
    features = child_features(images, own=lambda image: image[:2])
    sealed = np.arange(len(table)) % 3 == 0
    table.loc[sealed, "label"] = "sealed"
    features[sealed] = np.nan
    found = likeness(table, features, n_resamples=20)
    pd.testing.assert_frame_equal(found, likeness(table[~sealed], features[~sealed], n_resamples=20))


@pytest.mark.parametrize("count", [0, 3])
def test_other_names_give_empty_frames(count):
    table = pd.DataFrame(
        {
            "image_id": [f"train/NORMAL/IM-{i:04}-0001.jpeg" for i in range(count)],
            "label": pd.Series(["normal"] * count, dtype=object),
            "part": pd.Series(["train"] * count, dtype=object),
            "person_num": pd.array([None] * count, dtype="Int64"),
        }
    )
    full = cohort_rows(separate_counters(20))
    for found, other in [
        (counters(table), counters(full)),
        (collisions(table), collisions(full, n_permutations=10)),
        (likeness(table, np.zeros((count, 2))), likeness(full, np.eye(len(full)), n_resamples=5)),
    ]:
        assert found.empty
        assert found.columns.tolist() == other.columns.tolist()


def test_numbers_without_images_of_a_name():
    """Rows of the hub have a person number and a label, and no running number."""
    table = pd.DataFrame(
        {
            "image_id": [f"row-{i:05}" for i in range(6)],
            "label": ["bacterial", "bacterial", "bacterial", "viral", "viral", "normal"],
            "part": "train",
            "person_num": pd.array([1, 2, 3, 2, 3, None], dtype="Int64"),
        }
    )
    found = row(counters(table), part="all", etiology="pooled")
    assert found["files":"highest"].tolist() == [5, 3, 1, 3]
    assert found["spearman":].isna().all()
    assert row(collisions(table), part="all", null="range")["observed"] == 2


def test_ranges_that_do_not_meet_have_no_collisions_to_compare():
    assert collisions(cohort_rows([("bacteria", 1, 1), ("virus", 2, 1)])).empty
    assert collisions(cohort_rows([("bacteria", 1, 1), ("bacteria", 2, 2)])).empty


def test_features_that_do_not_fit_are_refused():
    table = cohort_rows(separate_counters(5))
    with pytest.raises(ValueError, match="features of shape"):
        likeness(table, np.zeros((len(table) + 1, 3)))
    with pytest.raises(ValueError, match="not finite"):
        likeness(table, np.full((len(table), 3), np.nan))
