"""Names of models for readers: every model of the study has one, and no two share one."""

import pytest

from leakfree_study.figures.names import model_name
from leakfree_study.models.recipes import RECIPES


def test_every_recipe_has_words_of_its_own():
    named = {recipe: model_name(recipe) for recipe in RECIPES}
    assert len(set(named.values())) == len(named)
    for recipe, words in named.items():
        assert words != recipe and words == model_name(words), recipe


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("1-nn on embeddings", "nearest neighbour on embeddings"),
        ("xgboost", "XGBoost"),
        ("random_forest", "random forest"),
        ("resnet18-reframed-exposure", "ResNet18, trained against framing and exposure"),
        ("efficientnet-lite0", "EfficientNet-Lite0"),
        ("resnet18-reframed, seed 42", "ResNet18, trained against framing, seed 42"),
        ("resnet18-other", "resnet18-other"),
        ("xgboostx", "xgboostx"),
        ("", ""),
        ("my_model", "my_model"),
    ],
)
def test_models_are_named_and_other_texts_stay(name, words):
    assert model_name(name) == words
