"""Training: learns, keeps the best epoch, repeats bit for bit, and the ledger sees what it consumed."""

from dataclasses import replace

import numpy as np
import pytest

from deferred import deferred

with deferred:
    import torch

    from leakfree.data.pixels import PixelCache, pixel_digest
    from leakfree.ledger.ledger import Ledger, LedgerError
    from leakfree.models import training
    from leakfree.models.checkpoint import Checkpoint
    from leakfree.models.networks import SimpleCNN, build
    from leakfree.models.training import (
        Budget,
        Normalisation,
        TrainingError,
        TrainingImages,
        augment,
        fit,
        predict,
    )

    PLAIN = Budget(
        epochs=2, batch_size=8, learning_rate=1e-3, optimizer="adam", augment=False, precision="float32"
    )

    ONE_CYCLE = Budget(epochs=4, batch_size=8, learning_rate=2e-3)

SIZE = 16


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def toy(n=72, seed=0):
    """Make images whose class brightens the upper or the lower half."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    pixels = rng.integers(60, 120, (n, SIZE, SIZE))
    pixels[labels == 0, : SIZE // 2] += 90
    pixels[labels == 1, SIZE // 2 :] += 90
    ids = np.array([f"image-{i:03d}" for i in range(n)], dtype=object)
    pixels = pixels.astype(np.uint8)
    digests = {image_id: pixel_digest(image) for image_id, image in zip(ids, pixels, strict=True)}
    return PixelCache(ids, pixels, digests), labels.astype(np.int64)


TRAIN, VAL, TEST = np.arange(0, 45), np.arange(45, 60), np.arange(60, 72)


def trained(
    budget=None, *, seed=7, val=VAL, cache=None, labels=None, ledger=None, model_seed=1, checkpoint=None
):
    own, own_labels = toy()
    cache = own if cache is None else cache
    torch.manual_seed(model_seed)
    return fit(
        SimpleCNN(2, SIZE),
        TrainingImages(cache, own_labels if labels is None else labels, TRAIN, val),
        PLAIN if budget is None else budget,
        seed=seed,
        ledger=Ledger(cache.digests) if ledger is None else ledger,
        checkpoint=checkpoint,
    )


def states(fitted):
    return {key: value.clone() for key, value in fitted.network.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("optimizer", ["adam", "adamw-one-cycle"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_learns_what_can_be_seen(optimizer, precision):
    cache, labels = toy()
    ledger = Ledger(cache.digests)
    budget = Budget(epochs=4, batch_size=8, learning_rate=2e-3, optimizer=optimizer, precision=precision)
    fitted = trained(budget, ledger=ledger)
    ids, p = predict(
        fitted.network, cache, TEST, fitted.normalisation, ledger=ledger, stage="test", precision=precision
    )
    assert ids.tolist() == cache.ids[TEST].tolist()
    assert p.shape == (len(TEST), 2)
    assert p.dtype == np.float64
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-12)
    assert (p.argmax(axis=1) == labels[TEST]).all()
    assert fitted.history["train_loss"].iloc[-1] < fitted.history["train_loss"].iloc[0]
    assert fitted.history["val_accuracy"].max() == 1


def forced(monkeypatch, scores):
    """Let validation give these (macro F1, loss), and return the weights that each call saw."""
    seen = []

    def validate(network, *_):
        seen.append({key: training._round_half(v.clone()) for key, v in network.state_dict().items()})
        f1, loss = scores[len(seen) - 1]
        return {"val_loss": loss, "val_macro_f1": f1, "val_accuracy": f1}

    monkeypatch.setattr(training, "_validate", validate)
    return seen


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([(0.9, 0.1), (0.5, 0.6), (0.4, 0.9)], 1),  # worsens: an alias would have the last weights
        ([(0.5, 0.6), (0.9, 0.1), (0.8, 0.05)], 2),
        ([(0.5, 0.6), (0.6, 0.5), (0.7, 0.4)], 3),
        ([(0.5, 0.6), (0.5, 0.3), (0.5, 0.4)], 2),  # equal F1: the lower loss
        ([(0.5, 0.3), (0.5, 0.3), (0.5, 0.3)], 1),  # all equal: the first
    ],
)
def test_weights_of_the_best_epoch_are_kept(monkeypatch, scores, best):
    seen = forced(monkeypatch, scores)
    fitted = trained(replace(PLAIN, epochs=3))
    assert fitted.epoch == best
    assert same(states(fitted), seen[best - 1])
    assert [same(states(fitted), other) for other in seen].count(True) == 1
    assert fitted.history["val_macro_f1"].tolist() == [f1 for f1, _ in scores]


def test_validation_that_really_worsens_keeps_an_early_epoch():
    _, labels = toy()
    labels = labels.copy()
    labels[VAL] = 1 - labels[VAL]  # the better it learns, the worse this validation gets
    fitted = trained(replace(PLAIN, epochs=4), labels=labels)
    last = fitted.history.iloc[-1]
    kept = fitted.history.set_index("epoch").loc[fitted.epoch]
    assert fitted.epoch < 4
    assert (kept["val_macro_f1"], -kept["val_loss"]) > (last["val_macro_f1"], -last["val_loss"])


def test_without_validation_the_last_epoch_is_kept():
    fitted = trained(replace(PLAIN, epochs=3), val=None)
    assert fitted.epoch == 3
    assert fitted.history[["val_loss", "val_macro_f1", "val_accuracy"]].isna().all(axis=None)
    assert not same(states(fitted), states(trained(replace(PLAIN, epochs=2), val=None)))


def test_validation_does_not_change_the_training():
    seen = trained(val=VAL).history["train_loss"]
    assert seen.tolist() == trained(val=None).history["train_loss"].tolist()


def test_normalisation_is_fitted_on_training_rows_only():
    cache, _ = toy()
    expected = cache.pixels[TRAIN] / 255
    pixels = cache.pixels.copy()
    pixels[VAL], pixels[TEST] = 255, 0
    other = PixelCache(
        cache.ids, pixels, {i: pixel_digest(p) for i, p in zip(cache.ids, pixels, strict=True)}
    )
    normalisation = trained(replace(PLAIN, epochs=1), cache=other).normalisation
    assert normalisation.mean == pytest.approx(expected.mean(), abs=1e-6)
    assert normalisation.std == pytest.approx(expected.std(), abs=1e-6)


def test_normalisation_applies_what_it_says():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 1, 8, 8), dtype=np.uint8)
    normalisation = Normalisation.fit(pixels)
    x = normalisation.apply(torch.from_numpy(pixels))
    assert x.dtype == torch.float32
    np.testing.assert_allclose(
        x.numpy(), (pixels / 255 - normalisation.mean) / normalisation.std, rtol=1e-4, atol=1e-5
    )
    assert abs(float(x.mean())) < 1e-4
    assert Normalisation.fit(np.full((2, 4, 4), 9, np.uint8)).std > 0


@pytest.mark.parametrize(
    "budget",
    [lambda: PLAIN, lambda: Budget(epochs=2, batch_size=8, precision="bfloat16")],
    ids=["plain", "augmented-bf16"],
)
def test_same_seed_same_weights_bit_for_bit(budget):
    budget = budget()
    first, again = trained(budget), trained(budget)
    assert same(states(first), states(again))
    assert first.history.equals(again.history)
    assert not same(states(first), states(trained(budget, seed=8)))


def test_seed_alone_decides_the_order(monkeypatch):
    def order(seed, model_seed):
        seen = []
        inner = training.batches

        def watched(cache, rows, *rest):
            seen.append(rows.copy())
            torch.rand(model_seed)  # as dropout would: the global generator must not matter
            return inner(cache, rows, *rest)

        monkeypatch.setattr(training, "batches", watched)
        trained(seed=seed, model_seed=model_seed, val=None)
        monkeypatch.setattr(training, "batches", inner)
        return np.concatenate(seen)

    first = order(7, 1)
    assert np.array_equal(first, order(7, 2))
    assert not np.array_equal(first, order(8, 1))
    one, two = first[: len(TRAIN)], first[len(TRAIN) :]
    assert sorted(one) == sorted(two) == TRAIN.tolist()
    assert not np.array_equal(one, two)  # shuffled anew in each epoch


def test_kept_weights_are_rounded_to_half():
    fitted = trained()
    for key, value in states(fitted).items():
        assert torch.equal(value, value.half().to(value.dtype)), key
    torch.manual_seed(1)
    start = SimpleCNN(2, SIZE).state_dict()
    assert any(not torch.equal(value, value.half().float()) for value in start.values())


def test_whole_numbers_are_not_rounded():
    counter = torch.tensor(70001)  # batches tracked by batch norm: half precision ends at 65504
    assert training._round_half(counter).item() == 70001


def test_ledger_sees_the_training_rows_once_an_epoch():
    cache, _ = toy()
    ledger = Ledger(cache.digests)
    trained(replace(PLAIN, epochs=3), ledger=ledger)
    assert ledger.consumed("train") == dict.fromkeys(cache.ids[TRAIN], 3)
    assert ledger.consumed("val") == dict.fromkeys(cache.ids[VAL], 3)
    assert not ledger.consumed("test")


def test_pixels_that_do_not_belong_to_their_id_stop_the_training():
    cache, labels = toy()
    swapped = PixelCache(cache.ids, cache.pixels[::-1].copy(), cache.digests)
    with pytest.raises(LedgerError, match="are not that image's"):
        trained(cache=swapped, labels=labels)


def test_labels_follow_the_ids_and_not_the_order(monkeypatch):
    _, labels = toy()
    targets, inner = [], training.functional.cross_entropy
    monkeypatch.setattr(
        training.functional, "cross_entropy", lambda x, y, w: targets.append((y.clone(), w)) or inner(x, y, w)
    )
    trained(replace(PLAIN, epochs=1), seed=3)
    order = TRAIN[torch.randperm(len(TRAIN), generator=torch.Generator().manual_seed(3)).numpy()]
    assert torch.cat([y for y, _ in targets]).tolist() == labels[order].tolist()


def test_class_weights_are_inverse_frequencies_of_the_training_part(monkeypatch):
    _, labels = toy()
    labels = labels.copy()
    labels[TRAIN] = np.where(np.arange(len(TRAIN)) < 9, 1, 0)
    seen, inner = [], training.functional.cross_entropy
    monkeypatch.setattr(
        training.functional, "cross_entropy", lambda x, y, w: seen.append(w) or inner(x, y, w)
    )
    trained(replace(PLAIN, epochs=1, class_weights=True), labels=labels)
    np.testing.assert_allclose(seen[0].numpy(), [45 / (2 * 36), 45 / (2 * 9)], rtol=1e-6)
    seen.clear()
    trained(replace(PLAIN, epochs=1, class_weights=False), labels=labels)
    assert seen[0] is None


def test_prediction_leaves_the_network_alone_and_uses_its_evaluation_mode():
    cache, _ = toy()
    torch.manual_seed(0)
    network, _ = build("resnet18", 2, SIZE)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    normalisation = Normalisation.fit(cache.pixels)

    def p(rows):
        ledger = Ledger(cache.digests)
        return predict(network, cache, rows, normalisation, ledger=ledger, stage="test", precision="float32")[
            1
        ]

    np.testing.assert_allclose(p(TEST)[:1], p(TEST[:1]), atol=1e-6)  # in training mode, batches would matter
    assert same(network.state_dict(), before)


def test_a_last_batch_of_one_image_is_no_obstacle():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (9, 32, 32), dtype=np.uint8)
    ids = np.array([str(i) for i in range(9)], dtype=object)
    cache = PixelCache(ids, pixels, {i: pixel_digest(p) for i, p in zip(ids, pixels, strict=True)})
    ledger = Ledger(cache.digests)
    network, _ = build("resnet18", 2, 32)
    labels = (np.arange(9) % 2).astype(np.int64)
    fit(network, TrainingImages(cache, labels, np.arange(9)), replace(PLAIN, epochs=1), seed=0, ledger=ledger)
    assert ledger.consumed("train") == dict.fromkeys(ids, 1)


def drawn(x, seed=0):
    return augment(x, torch.Generator().manual_seed(seed))


def test_augmentation_keeps_the_shape_and_the_input():
    x = torch.rand(5, 1, 24, 24)
    before = x.clone()
    y = drawn(x)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    assert torch.equal(x, before)
    assert not torch.allclose(y, x, atol=0.01)
    assert torch.isfinite(y).all()


def test_augmentation_depends_on_its_generator_alone():
    x = torch.rand(4, 1, 24, 24)
    torch.manual_seed(1)
    first, state = drawn(x), torch.get_rng_state()
    torch.manual_seed(2)
    again = drawn(x)
    torch.manual_seed(1)
    assert torch.equal(first, again)
    assert torch.equal(state, torch.get_rng_state())  # nothing was drawn from the global one
    assert not torch.equal(first, drawn(x, seed=1))


def test_every_image_of_a_batch_has_its_own_draw():
    x = torch.rand(1, 1, 24, 24).expand(6, -1, -1, -1).contiguous()
    y = drawn(x)
    assert all(not torch.allclose(y[0], other, atol=1e-3) for other in y[1:])


def dots(place, n=300, side=64):
    x = torch.zeros(n, 1, side, side)
    row, column = place
    x[:, 0, row - 1 : row + 1, column - 1 : column + 1] = 10.0
    return x


def centres(y):
    weight = (y[:, 0] - y[:, 0].amin(dim=(1, 2), keepdim=True)).clamp(min=0)
    weight = torch.where(weight > 0.5, weight, torch.zeros(()))
    total = weight.sum(dim=(1, 2))
    grid = torch.arange(weight.shape[1]) + 0.5
    return (weight.sum(dim=2) @ grid) / total, (weight.sum(dim=1) @ grid) / total


def test_augmentation_never_mirrors():
    # The heart has a side: what stands up and left must stay up and left.
    row, column = centres(drawn(dots((16, 12)), seed=3))
    assert (row < 32).all()
    assert (column < 32).all()
    assert row.std() > 0.5


def test_augmentation_shifts_by_four_percent_at_most():
    row, column = centres(drawn(dots((32, 32)), seed=4))
    limit = 0.04 * 64 * 1.1 + 0.5
    for moved in (row - 32, column - 32):
        assert moved.abs().max() < limit
        assert moved.max() > 1.5
        assert moved.min() < -1.5


def test_augmentation_changes_exposure_by_a_tenth():
    y = drawn(torch.ones(300, 1, 8, 8), seed=5)[:, 0, 4, 4]
    assert 0.8 - 1e-6 <= float(y.min()) < 0.85
    assert 1.15 < float(y.max()) <= 1.2 + 1e-6


def test_training_augments_only_when_asked(monkeypatch):
    calls = []
    monkeypatch.setattr(training, "augment", lambda x, generator: calls.append(len(x)) or x)
    trained(replace(PLAIN, epochs=1))
    assert not calls
    trained(replace(PLAIN, epochs=1, augment=True))
    assert sum(calls) == len(TRAIN)  # never on validation


def test_training_cuts_out_anew_only_when_asked(monkeypatch):
    calls = []

    def noted(x, generator, black, exposure):
        calls.append((len(x), black, exposure))
        return x

    monkeypatch.setattr(training, "reframe", noted)
    trained(replace(PLAIN, epochs=1, augment=True))
    assert not calls
    fitted = trained(replace(PLAIN, epochs=1, reframe=True, exposure=0.25))
    assert sum(n for n, _, _ in calls) == len(TRAIN)  # never on validation
    assert {exposure for _, _, exposure in calls} == {0.25}
    black = float(fitted.normalisation.apply(torch.zeros(1, 1, 1, 1, dtype=torch.uint8)))
    assert abs(calls[0][1] - black) < 1e-6


def test_the_last_epoch_is_kept_where_that_is_asked(monkeypatch):
    seen = forced(monkeypatch, [(0.9, 0.1), (0.5, 0.6), (0.4, 0.9)])
    fitted = trained(replace(PLAIN, epochs=3, keep="last", patience=1))
    assert fitted.epoch == 3
    assert same(states(fitted), seen[2])
    assert fitted.history["val_macro_f1"].tolist() == [0.9, 0.5, 0.4]


class Cut(Exception):
    """The machine goes away."""


def cut_after(monkeypatch, epochs):
    """Stop the training after some epochs are in the checkpoint."""
    save, saved = Checkpoint.save, []

    def saving(self, state):
        save(self, state)
        saved.append(state)
        if len(saved) == epochs:
            raise Cut

    monkeypatch.setattr(Checkpoint, "save", saving)


@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize(
    "budget", [lambda: ONE_CYCLE, lambda: replace(PLAIN, epochs=4)], ids=["one-cycle", "plain"]
)
def test_a_training_that_is_cut_off_ends_like_one_that_was_not(monkeypatch, tmp_path, epochs, budget):
    budget, (cache, labels) = budget(), toy()
    whole_ledger, ledger = Ledger(cache.digests), Ledger(cache.digests)
    whole = trained(budget, ledger=whole_ledger)
    checkpoint = Checkpoint(tmp_path / "cell.pt", "key")

    def go(into):
        torch.manual_seed(1)
        return fit(
            SimpleCNN(2, SIZE),
            TrainingImages(cache, labels, TRAIN, VAL),
            budget,
            seed=7,
            ledger=into,
            checkpoint=checkpoint,
        )

    with monkeypatch.context() as patch, pytest.raises(Cut):
        cut_after(patch, epochs)
        go(Ledger(cache.digests))
    torch.manual_seed(99)  # another process has another state of everything
    resumed = go(ledger)
    expected, found = states(whole), states(resumed)
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert resumed.history.equals(whole.history)
    assert resumed.epoch == whole.epoch
    assert ledger.consumed("train") == whole_ledger.consumed("train")
    assert ledger.consumed("val") == whole_ledger.consumed("val")
    assert resumed.seconds > 0


def test_a_checkpoint_of_another_key_is_not_gone_on_with(monkeypatch, tmp_path):
    with monkeypatch.context() as patch, pytest.raises(Cut):
        cut_after(patch, 2)
        trained(ONE_CYCLE, checkpoint=Checkpoint(tmp_path / "cell.pt", "old"))
    calls = []
    monkeypatch.setattr(training, "_epoch", lambda *a: calls.append(1) or 0.5)
    trained(ONE_CYCLE, checkpoint=Checkpoint(tmp_path / "cell.pt", "new"))
    assert len(calls) == 4


def test_patience_stops_and_keeps_the_best(monkeypatch):
    scores = iter([0.5, 0.9, 0.8, 0.7, 0.95, 0.99])
    ran = []

    def validate(*arguments):
        ran.append(1)
        return {"val_loss": 0.1, "val_macro_f1": next(scores), "val_accuracy": 0.5}

    monkeypatch.setattr(training, "_validate", validate)
    fitted = trained(replace(PLAIN, epochs=6, patience=2))
    assert (fitted.epoch, len(ran), len(fitted.history)) == (2, 4, 4)


def test_no_patience_trains_all_epochs(monkeypatch):
    monkeypatch.setattr(
        training, "_validate", lambda *a: {"val_loss": 0.1, "val_macro_f1": 0.5, "val_accuracy": 0.5}
    )
    assert len(trained(replace(PLAIN, epochs=5)).history) == 5
    assert len(trained(replace(PLAIN, epochs=5, patience=1)).history) == 2


def test_a_loss_that_is_no_number_stops_with_a_reason():
    with pytest.raises(TrainingError, match=r"fit: the loss of epoch 1 is not a number; lower the learning"):
        trained(replace(PLAIN, learning_rate=1e30))


@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("class_weights", [True, False])
def test_a_training_part_without_a_class_stops_with_a_reason(lost, class_weights):
    _, labels = toy()
    labels[TRAIN] = 1 - lost
    with pytest.raises(TrainingError, match=f"^fit: the training part has no image of class {lost}; take "):
        trained(replace(PLAIN, class_weights=class_weights), labels=labels)


def test_a_validation_part_without_a_class_is_scored():
    _, labels = toy()
    history = trained(PLAIN, val=VAL[labels[VAL] == 1]).history
    assert history["val_macro_f1"].between(0, 1).all() and np.isfinite(history["val_loss"]).all()


def full(*given, **options):
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ...")


@pytest.mark.parametrize(
    ("owner", "name", "message"),
    [
        ("functional", "cross_entropy", r"^fit: .* GPU; lower the batch size, or take device cpu$"),
        ("network", "to", r"^fit: .* GPU; lower the batch size, or take device cpu$"),
        ("Normalisation", "apply", r"^stage test: .* GPU; take device cpu$"),
    ],
)
def test_a_gpu_that_is_too_small_is_one_line(monkeypatch, owner, name, message):
    cache, _ = toy()
    normalisation, network = Normalisation(0.5, 0.2), SimpleCNN(2, SIZE)
    monkeypatch.setattr(SimpleCNN if owner == "network" else getattr(training, owner), name, full)
    with pytest.raises(TrainingError, match=message):
        if name == "apply":
            predict(network, cache, TEST, normalisation, ledger=Ledger(cache.digests), stage="test")
        else:
            trained(PLAIN)


def test_the_device_is_what_was_asked_for(monkeypatch):
    assert Budget(epochs=1).torch_device().type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Budget(epochs=1, device="auto").torch_device().type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert Budget(epochs=1, device="auto").torch_device().type == "cuda"
    assert Budget(epochs=1, device="cuda").torch_device().type == "cuda"
