"""Training against framing: the rule, what is asked of a candidate, and what is chosen."""

import json
import subprocess
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml

from deferred import deferred
from leakfree.predict.framed import FRAMINGS, PLAIN, Framing

with deferred:
    from leakfree.data.cohort import ingest
    from leakfree.data.sources.phantom import PhantomSettings, PhantomSource
    from leakfree.scores.metrics import point_estimates
    from leakfree.scores.predictions import check_predictions
    from leakfree_study.models.recipes import RECIPES
    from leakfree_study.networks import reframed
    from leakfree_study.networks.deep import five_parts
    from leakfree_study.networks.published import load_trained
    from leakfree_study.networks.reframed import Candidate, FramedImages, FramingRule, Worst, framing_rule
    from leakfree_study.networks.sealed import read_plan
    from leakfree_study.networks.trainings import Network, train
    from leakfree_study.run.run import open_run

ZOOMS = (Framing(0.8), PLAIN, Framing(1.2))


def answers(*rights, n=40, seed=1):
    """Answers of a network at each of `ZOOMS`: so many of the ill and of the healthy are right."""
    found = {}
    for framing, (ill, healthy) in zip(ZOOMS, rights, strict=True):
        right = np.array([k < ill for k in range(n)] + [k < healthy for k in range(n)])
        positive = np.where(np.arange(2 * n) < n, right, ~right) * 0.8 + 0.1
        frame = pd.DataFrame(
            {
                "image_id": [f"{k}.png" for k in range(2 * n)],
                "patient": [f"p{k // 2}" for k in range(2 * n)],
                "part": reframed.HELD_OUT,
                "label": ["ill"] * n + ["healthy"] * n,
                "p_healthy": 1 - positive,
                "p_ill": positive,
                "seed": seed,
            }
        )
        found[framing] = check_predictions(frame)
    return found


def test_the_rule_can_be_read_and_names_recipes_that_keep_their_last_epoch():
    rule = framing_rule()
    assert len(rule.candidates) >= 3 and len(rule.seeds) >= 3
    for one in (*rule.candidates, rule.three_class):
        recipe = RECIPES[one.recipe]
        assert recipe.keep == "last" and not recipe.stops
    assert {0.9, 1.0, 1.3} <= set(rule.zooms) and "test" not in rule.parts and "train" not in rule.parts
    content = yaml.safe_load(rule.model_dump_json())
    with pytest.raises(ValueError, match="surprise"):
        FramingRule.model_validate(content | {"surprise": 1})


def test_worst_is_that_of_each_network_at_its_own_worst_framing():
    first, second = answers((40, 20), (40, 40), (36, 40)), answers((40, 40), (40, 40), (30, 30))
    worst = Worst.of([first, second], n_resamples=200)
    assert worst.each == (0.75, 0.75)
    low, high = worst.interval()
    assert low < worst.estimate < high + 0.02
    assert Worst.of([first], "sensitivity", n_resamples=1).estimate == pytest.approx(0.9)
    assert Worst.of([first], framings=(PLAIN,), n_resamples=1).estimate == 1


def test_framing_is_worth_what_the_worst_framing_costs_in_roc_auc():
    one, other = Network("binary", "a", 1, 8), Network("binary", "b", 2, 8)
    found = {one: answers((40, 20), (40, 40), (36, 40)), other: answers((40, 40), (40, 40), (40, 40))}
    table = reframed.worth_of_framing(found, ZOOMS, n_resamples=200)
    # Half of the healthy rank as high as the ill: the area is 1/2 + 1/4.
    assert table["estimate"].round(6).tolist() == [0.25, 0] and table["model"].tolist() == ["a", "b"]
    assert table["low"].iloc[0] < 0.25 < table["high"].iloc[0] and (table.loc[1, ["low", "high"]] == 0).all()
    assert (table["n_images"] == 80).all() and (table["n_patients"] == 40).all()
    mild = reframed.worth_of_framing(found, (PLAIN, Framing(1.2)), n_resamples=200)
    assert mild["estimate"].round(6).tolist() == [0.05, 0]


def test_what_a_part_brings_is_the_gain_over_the_row_before():
    rule = framing_rule().model_copy(update={"zooms": (0.8, 1.0, 1.2), "margin": 0.005})
    rows = {
        Candidate(recipe="a", image_size=8): [answers((40, 10), (40, 40), (40, 40))],
        Candidate(recipe="b", image_size=8): [answers((40, 38), (40, 40), (40, 40))] * 2,
        Candidate(recipe="c", image_size=8): [answers((40, 38), (40, 40), (40, 40))],
    }
    table = reframed.ablation(rows, rule, n_resamples=200)
    assert table["worst"].tolist() == [0.625, 0.975, 0.975]
    assert table["gain"].round(3).tolist()[1:] == [0.35, 0.0] and np.isnan(table["gain"].iloc[0])
    assert table["gain_low"].iloc[1] > 0.2 and table["gain_low"].iloc[2] == 0
    assert table["worst_specificity"].tolist() == [0.25, 0.95, 0.95] and (table["plain"] == 1).all()
    assert table["networks"].tolist() == [1, 2, 1] and (table["n_patients"] == 40).all()
    # Of two that are alike, the one that stands first.
    assert table["chosen"].tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("values", "margin", "place"),
    [((0.6, 0.9, 0.904), 0.005, 1), ((0.6, 0.9, 0.91), 0.005, 2), ((0.9,), 0, 0)],
)
def test_within_the_margin_the_first_is_chosen(values, margin, place):
    assert reframed.chosen_row(values, margin) == place


def test_the_published_network_is_the_best_at_its_worst():
    worst = Worst((0.7, 0.9, 0.9), np.zeros(3))
    assert reframed.published_seed((42, 43, 44), worst) == 43


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reframed")
    ingest(PhantomSource(PhantomSettings(n_images=240, size=24)), folder / "store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEAKFREE_CACHE", str(folder / "cache"))
        run = open_run("05_reframed", data=str(folder / "store"), run_dir=str(folder / "run"), jobs=1)
        manifest = five_parts(run, "binary")
        one = Network("binary", "resnet18-reframed", 1, 16)
        yield run, manifest, one, train(run, [one], {"binary": manifest}, epochs=1)[one]


def test_answers_are_those_of_the_network_on_images_cut_out_otherwise(trained):
    run, manifest, _, result = trained
    asked = (PLAIN, Framing(1.3))
    images = FramedImages(run, manifest.parts["test"], [16], asked)
    found = reframed.framed_answers(run, result, images, "test", lambda: load_trained(result))
    assert tuple(found) == asked
    # As they are, they are answered as the cell answered them.
    own = result.read("test")
    mine = dict(zip(own.image_ids, own.probabilities[:, 1], strict=True))
    plain = found[PLAIN]
    assert set(plain.image_ids) == set(manifest.parts["test"])
    assert plain.probabilities[:, 1] == pytest.approx([mine[i] for i in plain.image_ids], abs=2e-3)
    assert np.abs(found[Framing(1.3)].probabilities - plain.probabilities).max() > 1e-3
    assert (run.folder / "measurements" / f"{result.predictions.stem}_test.csv").is_file()
    curve = reframed.zoom_curve(found, ("sensitivity", "specificity"), n_resamples=50)
    assert curve["framing"].tolist() == ["zoom 1"] * 2 + ["zoom 1.3"] * 2
    assert curve["estimate"].iloc[0] == point_estimates(plain, ["sensitivity"])["sensitivity"]


def test_a_last_epoch_is_kept_and_the_recipe_says_how_it_is_trained(trained):
    _, _, _, result = trained
    assert result.facts["epoch"] == len(result.history)
    recipe = RECIPES["resnet18-reframed-exposure"]
    assert recipe.reframe and recipe.exposure > RECIPES["resnet18-reframed"].exposure
    assert not RECIPES["resnet18-usual"].reframe


def test_the_summary_says_where_the_published_network_is_worst():
    rule = framing_rule().model_copy(update={"zooms": (0.8, 1.0, 1.2)})
    rows = {
        Candidate(recipe="a", image_size=8): [answers((40, 10), (40, 40), (40, 40))],
        Candidate(recipe="b", image_size=8): [answers((40, 38), (40, 40), (40, 40))],
    }
    chosen = Network("binary", "b", 1, 8)
    curves = pd.concat(
        [
            reframed.zoom_curve(found[0], ("specificity",), n_resamples=50).assign(
                **chosen._replace(model=one.recipe)._asdict()
            )
            for one, found in rows.items()
        ]
    )
    told = reframed.summary(reframed.ablation(rows, rule, n_resamples=50), curves, chosen)
    assert "0.975 for the chosen training (b), and 0.625 for a" in told
    assert "specificity is lowest at zoom 0.8: 0.950 (" in told


def test_every_framing_that_is_reported_is_one_that_anybody_can_ask(trained):
    assert set(framing_rule().framings) <= set(FRAMINGS)
    assert replace(trained[3].cell, seed=2) != trained[3].cell


def test_the_published_network_is_the_one_that_the_rule_chooses_and_its_plan_has_the_rules_goals(repository):
    run, rule = repository / "artifacts" / "chest_xray", framing_rule()
    table = pd.read_csv(run / "tables" / "05_framing_ablation.csv")
    assert table["recipe"].tolist() == [one.recipe for one in rule.candidates]
    assert table["networks"].tolist() == [len(rule.seeds)] * len(table)
    place = reframed.chosen_row(table["worst"], rule.margin)
    assert table["chosen"].tolist() == [row == place for row in range(len(table))]
    said = json.loads((run / "models" / "preprocessing.json").read_text(encoding="utf-8"))
    assert said["weights"] == f"{table['recipe'][place]}_leakfree.safetensors"
    assert said["image_size"] == table["image_size"][place] and said["seed"] in rule.seeds
    goals = read_plan(run / "sealed_plan_2.yaml").goals
    told = goals["binary"] | {"three_class_macro_f1": goals["three-class"]["macro_f1"]}
    assert told == rule.goals


def test_the_rule_was_committed_before_any_of_its_networks(repository):
    def git(*arguments):
        done = subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, text=True)
        return done.stdout.strip()

    rule = git("log", "-1", "--format=%H", "--", "lib/leakfree_study/networks/framing_rule.yaml")
    cell = "artifacts/chest_xray/cells/05_binary_resnet18-reframed_64px_clean_s42.json"
    trained_in = git("log", "--diff-filter=A", "--format=%H", "--", cell)
    if not rule or not trained_in or git("rev-parse", "--is-shallow-repository") == "true":
        pytest.skip("the history is not here or was cut off")
    asked = ["git", "-C", str(repository), "merge-base", "--is-ancestor", rule, f"{trained_in}~1"]
    assert subprocess.run(asked, check=False).returncode == 0
