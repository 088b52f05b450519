import json
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from deferred import deferred
from leakfree.scores.metrics import confusion, evaluate
from leakfree.scores.predictions import check_predictions

with deferred:
    import matplotlib as mpl
    from matplotlib import pyplot as plt
    from matplotlib.figure import Figure

    from leakfree_study.figures import plots as figures
    from leakfree_study.figures.plots import Entry


@pytest.fixture(autouse=True)
def _style():
    with mpl.rc_context():
        figures.use_style()
        yield
    assert plt.get_fignums() == []


def predictions(k=2, n=40, seed=0):
    rng = np.random.default_rng(seed)
    classes = ["normal", "bacterial", "viral"][:k]
    p = rng.dirichlet([1] * k, size=n)
    frame = pd.DataFrame(
        {"image_id": [f"i{i}" for i in range(n)], "patient": [f"p{i // 2}" for i in range(n)]}
    )
    frame["part"], frame["label"] = "test", [classes[i % k] for i in range(n)]
    for i, name in enumerate(classes):
        frame[f"p_{name}"] = p[:, i]
    return check_predictions(frame.assign(seed=0))


def history():
    epochs = np.arange(1, 5)
    return pd.concat(
        pd.DataFrame(
            {
                "protocol": p,
                "epoch": epochs,
                "train_loss": 1 / epochs,
                "val_loss": 2 / epochs,
                "val_accuracy": 0.9,
            }
        )
        for p in ("clean", "leaky")
    ).assign(seconds=3.0)


def scores():
    tables = [
        evaluate(predictions(seed=i), n_resamples=20).assign(model=model, protocol=protocol)
        for i, (model, protocol) in enumerate(
            (m, p) for m in ("simple_cnn", "resnet18") for p in ("clean", "leaky")
        )
    ]
    return pd.concat(tables, ignore_index=True)


def grey(n=5):
    return np.random.default_rng(0).integers(0, 255, (n, 300, 200)).astype(np.uint8)


PLOTS = {
    "learning_curves": lambda: figures.learning_curves(history()),
    "intervals": lambda: figures.intervals(scores()),
    "intervals_of_protocols": lambda: figures.intervals(scores().iloc[:6].drop(columns="model")),
    "confusion_matrix": lambda: figures.confusion_matrix(confusion(predictions(3))),
    "roc_curves": lambda: figures.roc_curves([("resnet18", predictions()), ("other", predictions(seed=1))]),
    "roc_curves_of_three": lambda: figures.roc_curves([("resnet18", predictions(3))]),
    "class_bars": lambda: figures.class_bars(
        pd.DataFrame({"part": ["train", "test"], "label": ["normal", "viral"], "images": [10, 3]})
    ),
    "images_per_patient": lambda: figures.images_per_patient([1, 1, 2, 30]),
    "images_per_class": lambda: figures.images_per_patient({"normal": [1, 2], "viral": [3]}),
    "contact_sheet": lambda: figures.contact_sheet(grey(), ["a"] * 5, 3, credit="Kermany 2018, CC BY 4.0"),
}


@pytest.mark.parametrize("name", PLOTS)
def test_plots_are_labelled_and_their_legends_cover_nothing(name):
    fig = PLOTS[name]()
    assert isinstance(fig, Figure)
    assert fig.get_suptitle()
    fig.draw_without_rendering()
    drawn = [ax for ax in fig.axes if ax.axison and ax.get_label() != "<colorbar>"]
    assert name == "contact_sheet" or drawn
    for ax in drawn:
        assert ax.get_xlabel()
        assert ax.get_ylabel() or name.startswith("intervals") or not ax.get_subplotspec().is_first_col()
        assert ax.get_legend() is None
        for legend in fig.legends:
            assert not legend.get_window_extent().overlaps(ax.get_tightbbox())
    for text in fig.texts:
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= fig.bbox.x1
    # No panel with its labels reaches into another or out of the figure.
    boxes = [ax.get_tightbbox() for ax in drawn]
    for i, box in enumerate(boxes):
        assert box.x0 >= -1
        assert box.x1 <= fig.bbox.x1 + 1
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])


@pytest.mark.parametrize("name", ["learning_curves", "roc_curves", "contact_sheet"])
def test_same_figure_same_bytes(tmp_path, name):
    for run in ("a", "b"):
        path = figures.save(PLOTS[name](), tmp_path / run, "x", Entry(caption="c", alt="a", source="s"))
    for file in (path.name, "index.json"):
        assert (tmp_path / "a/figures" / file).read_bytes() == (tmp_path / "b/figures" / file).read_bytes()
    if path.suffix == ".svg":
        assert "<dc:date>" not in path.read_text()
    else:
        assert "Software" not in Image.open(path).info


def test_the_lighter_of_two_kinds_is_written_and_the_other_one_goes(tmp_path):
    simple, axis = figures.plt.subplots()
    axis.plot([0, 1])
    axis.set_axis_off()
    busy, axis = figures.plt.subplots()
    axis.scatter(*np.random.default_rng(0).normal(size=(2, 5000)))
    figures.plt.close("all")
    kinds = {}
    for name, figure in (("simple", simple), ("busy", busy)):
        path = figures.save(figure, tmp_path, name, Entry(caption="c", alt="a", source="s"))
        kinds[name] = path.suffix
        sizes = {}
        for kind in ("svg", "png"):
            other = tmp_path / f"{name}.{kind}"
            figure.savefig(other, format=kind, dpi=150, bbox_inches="tight")
            sizes[f".{kind}"] = other.stat().st_size
        assert kinds[name] == min(sizes, key=sizes.get)
    assert kinds == {"simple": ".svg", "busy": ".png"}
    figures.save(busy, tmp_path, "simple", Entry(caption="c", alt="a", source="s"))
    assert [p.name for p in (tmp_path / "figures").glob("simple.*")] == ["simple.png"]


def test_a_figure_with_a_version_for_a_phone_has_three_files(tmp_path):
    wide, phone = figures.images_per_patient([1, 2]), figures.images_per_patient([1])
    entry = Entry(caption="c", alt="a", source="s")
    path = figures.save(wide, tmp_path, "x", entry, phone)
    names = ["x.svg", "x.png", "x-narrow.svg"]
    assert [file.name for file in figures.files_of(path)] == names
    assert json.loads((tmp_path / "figures/index.json").read_text())["x"]["files"] == names
    assert (tmp_path / "figures/x-narrow.svg").read_bytes() != path.read_bytes()
    # Without one there is one file, and none of the others stays.
    path = figures.save(wide, tmp_path, "x", entry)
    assert figures.files_of(path) == [path] == sorted((tmp_path / "figures").glob("x*"))


def test_a_figure_that_shows_images_is_kept_where_it_cannot_be_drawn(tmp_path):
    with pytest.raises(FileNotFoundError, match="shows images"):
        figures.save(None, tmp_path, "x", Entry(caption="c", alt="a", source="s", images=True))
    path = figures.save(
        PLOTS["contact_sheet"](), tmp_path, "x", Entry(caption="c", alt="a", source="s", images=True)
    )
    before = path.read_bytes()
    assert figures.save(None, tmp_path, "x", Entry(caption="new", alt="a", source="s", images=True)) == path
    assert path.read_bytes() == before
    entry = json.loads((tmp_path / "figures/index.json").read_text())["x"]
    assert (entry["caption"], entry["films"], entry["files"]) == ("new", True, [path.name])


def test_cells_of_figures_are_noted_beside_what_stands_there(tmp_path):
    figures.save(figures.images_per_patient([1]), tmp_path, "x", Entry(caption="c", alt="a", source="s"))
    figures.note_cells(tmp_path, {"x": 7})
    entry = json.loads((tmp_path / "figures/index.json").read_text())["x"]
    assert (entry["cell"], entry["caption"]) == (7, "c")


@pytest.mark.parametrize("empty", ["caption", "alt"])
def test_a_figure_without_words_is_refused(tmp_path, empty):
    words = {"caption": "c", "alt": "a"} | {empty: " "}
    with pytest.raises(ValueError, match="caption and alternative text"):
        figures.save(figures.images_per_patient([1]), tmp_path, "x", Entry(source="s", **words))


def test_same_bytes_in_another_process(tmp_path):
    code = (
        "import sys; from leakfree_study.figures import plots as figures; figures.use_style()\n"
        "fig = figures.images_per_patient([1, 1, 2])\n"
        "figures.save(fig, sys.argv[1], 'x', figures.Entry(caption='c', alt='a', source='s'))"
    )
    figures.use_style()
    path = figures.save(
        figures.images_per_patient([1, 1, 2]),
        tmp_path / "a",
        "x",
        Entry(caption="c", alt="a", source="s"),
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "b"], check=True, env={"MPLBACKEND": "Agg"})
    for file in (path.name, "index.json"):
        assert (tmp_path / "a/figures" / file).read_bytes() == (tmp_path / "b/figures" / file).read_bytes()


def test_index_names_source_and_tables_and_keeps_other_entries(tmp_path):
    fig = figures.images_per_patient([1, 2])
    words = {"alt": "What is seen.", "source": "01_exploration"}
    path = figures.save(fig, tmp_path, "one", Entry(caption="First.", tables=["tables/a.csv"], **words))
    figures.save(fig, tmp_path, "two", Entry(caption="Second.", **words))
    figures.save(fig, tmp_path, "one", Entry(caption="First again.", tables=["tables/a.csv"], **words))
    common = {"alt": "What is seen.", "source": "01_exploration", "films": False}
    assert json.loads((tmp_path / "figures/index.json").read_text()) == {
        "one": {
            "caption": "First again.",
            "tables": ["tables/a.csv"],
            "files": [path.name],
            **common,
        },
        "two": {"caption": "Second.", "tables": [], "files": [f"two{path.suffix}"], **common},
    }
    names = sorted(item.name for item in (tmp_path / "figures").iterdir())
    assert names == ["index.json", path.name, f"two{path.suffix}"]


def test_notebooks_that_save_at_once_lose_no_entry(tmp_path, monkeypatch):
    monkeypatch.setattr(Figure, "savefig", lambda self, stream, **_: stream.write(b""))
    fig = figures.images_per_patient([1])

    def write(worker):
        for i in range(8):
            figures.save(fig, tmp_path, f"w{worker}-{i}", Entry(caption="c", alt="a", source=""))

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(json.loads((tmp_path / "figures/index.json").read_text())) == 32


def test_bad_names_and_indexes_are_refused(tmp_path):
    fig = figures.images_per_patient([1])
    for name in ("../x", "", "A b", "x.png"):
        with pytest.raises(ValueError, match="figure name"):
            figures.save(fig, tmp_path, name, Entry(caption="c", alt="a", source=""))
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/index.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"index\.json: not an index"):
        figures.save(fig, tmp_path, "x", Entry(caption="c", alt="a", source=""))
    assert (tmp_path / "figures/index.json").read_text() == "[1]"


def test_colours_are_fixed_distinct_and_from_the_palette():
    models = [
        "resnet18",
        "simple_cnn",
        "logistic_regression",
        "random_forest",
        "xgboost",
        "efficientnet_lite0",
    ]
    for group in (
        models,
        ["normal", "bacterial", "viral", "pneumonia"],
        ["clean", "leaky"],
        ["train", "val", "test"],
    ):
        chosen = figures.colours(group)
        assert len(set(chosen.values())) == len(group)
        assert set(chosen.values()) <= set(figures.OKABE_ITO.values())
        for name in group:
            assert figures.colours([name])[name] == chosen[name]
    assert figures.colours(["SimpleCNN"])["SimpleCNN"] == figures.colours(["simple_cnn"])["simple_cnn"]
    assert figures.colours(["image-level"])["image-level"] == figures.colours(["leaky"])["leaky"]
    mixed = figures.colours(["new model", "resnet18", "xgboost", "another"])
    assert len(set(mixed.values())) == 4


def test_learning_curves_draw_each_series_once():
    fig = figures.learning_curves(history())
    assert [ax.get_ylabel() for ax in fig.axes] == ["Cross-entropy loss (nats)", "Accuracy"]
    assert [len(ax.lines) for ax in fig.axes] == [4, 2]
    clean = figures.colours(["clean"])["clean"]
    drawn = [line for line in fig.axes[0].lines if mpl.colors.to_hex(line.get_color()).upper() == clean]
    np.testing.assert_allclose(sorted(line.get_ydata()[0] for line in drawn), [1, 2])


def test_intervals_draw_the_numbers_of_the_table():
    table = scores().iloc[:1]
    ax = figures.intervals(table).axes[0]
    row = table.iloc[0]
    assert ax.lines[0].get_xdata().tolist() == [row["low"], row["high"]]
    assert ax.lines[1].get_xdata().tolist() == [row["estimate"]]
    # Panels are compared with one another, so they have one axis.
    panels = figures.intervals(scores()).axes
    assert len(panels) > 1 and len({panel.get_xlim() for panel in panels}) == 1
    undefined = table.assign(estimate=np.nan, low=np.nan, high=np.nan)
    assert [text.get_text() for text in figures.intervals(undefined).axes[0].texts] == ["undefined"]


def test_confusion_matrix_shows_counts_and_shares_of_rows():
    names = ["normal", "bacterial", "viral"]
    frame = pd.DataFrame([[3, 1, 0], [1, 1, 0], [0, 0, 0]], names, names)
    texts = [text.get_text() for text in figures.confusion_matrix(frame).axes[0].texts]
    none = "0\n(0.0 %)"
    half = "1\n(50.0 %)"
    assert texts == ["3\n(75.0 %)", "1\n(25.0 %)", none, half, half, none, none, none, none]


def test_contact_sheet_shows_thumbnails_with_credit():
    fig = figures.contact_sheet(grey(2), ["a", "x" * 40], credit="Kermany 2018")
    shown = fig.axes[0].images[0].get_array()
    assert shown.shape == (96, 64)
    assert fig.get_supxlabel() == "Kermany 2018"
    assert len(fig.axes[1].get_title()) == 18


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: figures.learning_curves(history()[["protocol", "epoch"]]), "no column of a loss or metric"),
        (lambda: figures.learning_curves(history().drop(columns="protocol")), "protocol or model"),
        (lambda: figures.intervals(scores().assign(task=["binary", "etiology"] * 6)), "different tasks"),
        (lambda: figures.intervals(pd.concat([scores(), scores()])), "one row for each metric"),
        (lambda: figures.roc_curves([("a", predictions(2)), ("b", predictions(3))]), "classes are the same"),
        (lambda: figures.roc_curves([]), "classes are the same"),
        (lambda: figures.images_per_patient([0, 1]), "one image or more"),
        (lambda: figures.contact_sheet(grey(2), ["a"], credit=""), "one title an image"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()
