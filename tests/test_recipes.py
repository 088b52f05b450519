"""Recipes name networks that can be made, and cells that can be told apart."""

import pytest

from leakfree.models.networks import build
from leakfree.models.recipes import RECIPES, Recipe


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_makes_a_network(name):
    recipe = RECIPES[name]
    _, origin = build(recipe.model, 2, 32, recipe.initial("none"))
    assert origin == ("imagenet" if recipe.weights == "imagenet" else "scratch")
    assert recipe.learning_rate > 0


def test_no_two_recipes_have_one_name_of_a_cell():
    names = [(recipe.model, recipe.variant) for recipe in RECIPES.values()]
    assert len(names) == len(set(names))


def test_weights_are_chosen_where_the_recipe_leaves_it_open():
    assert Recipe("resnet18", 1e-3, "chosen").initial("auto") == "auto"
    assert Recipe("resnet18", 1e-3).initial("auto") == "none"
