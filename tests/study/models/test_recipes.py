"""Recipes name networks that can be made, and cells that can be told apart."""

import pytest

from deferred import deferred
from leakfree_study.models.recipes import RECIPES, Recipe

with deferred:
    from leakfree.models.networks import build


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_makes_a_network(name):
    recipe = RECIPES[name]
    network, origin = build(recipe.model, 2, 32, recipe.initial("none"))
    assert origin == ("imagenet" if recipe.weights == "imagenet" else "scratch")
    assert recipe.learning_rate > 0
    # Pretraining is for networks with this last layer.
    assert hasattr(network, "fc") or not recipe.pretraining


def test_no_two_recipes_have_one_name_of_a_cell():
    names = [(recipe.model, recipe.variant) for recipe in RECIPES.values()]
    assert len(names) == len(set(names))


def test_weights_are_chosen_where_the_recipe_leaves_it_open():
    assert Recipe("resnet18", weights="chosen").initial("auto") == "auto"
    assert Recipe("resnet18", weights="imagenet").initial("auto") == "imagenet"
    assert Recipe("resnet18").initial("auto") == "none"


@pytest.mark.parametrize(
    ("share", "epochs", "expected"), [(1.0, 20, 20), (5.0, 20, 100), (0.6, 20, 12), (0.6, 3, 2), (0.6, 1, 1)]
)
def test_epochs_are_a_share_of_those_of_the_run(share, epochs, expected):
    assert Recipe("resnet18", share=share).epochs(epochs) == expected


def test_a_short_run_still_has_an_epoch_of_each_kind():
    recipe = Recipe("resnet18", share=0.1, pretraining=0.1)
    assert (recipe.epochs(2), recipe.unlabelled_epochs(2)) == (1, 1)


def test_epochs_without_labels_are_only_where_the_recipe_has_them():
    assert Recipe("resnet18").unlabelled_epochs(20) == 0
    assert Recipe("resnet18", pretraining=1.25).unlabelled_epochs(20) == 25
    # They are a share of the run's epochs, not of the network's own.
    assert Recipe("resnet18", pretraining=1.25, share=5.0).unlabelled_epochs(20) == 25
