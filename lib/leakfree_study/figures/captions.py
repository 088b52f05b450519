"""Captions and alternative texts of the figures that notebooks save; what is computed stands in braces."""

from __future__ import annotations

from leakfree_study.figures.names import model_name

#: Name of a figure, with the number of its notebook, to its caption and its text for who does not see it.
CAPTIONS = {
    "01_classes": (
        "Images of the cohort {cohort} by official part and class: {images:,} images.",
        "Bar chart of the number of images in each official part, one bar a class: {counts}.",
    ),
    "01_images_per_patient": (
        "How many images one patient has, by class; a patient is read {how}, and an image without an "
        "identifier is its own patient. The number of patients is on a logarithmic scale.",
        "Histograms, one a class, of the number of images of a patient: most patients have one image, few "
        "have many.",
    ),
    "01_samples": (
        "Sample images of every class, drawn by chance and squashed to a square as the networks see them. "
        "{credit}",
        "{images} small grey pictures in rows, each under the name of its class.",
    ),
    "02_overlap": (
        "Share of test images whose patient is also in training, {seeds} seeds of a plain and of a "
        "stratified 80/20 split of images, by what counts as a patient (scope). Each dot is a split; "
        "black lines: what chance must give.",
        "Strip plot of the share of test images whose patient also trains: for each patient scope a "
        "cloud of splits lies around its expectation, plain and stratified splits alike.",
    ),
    "03_learning_curves": (
        "Training loss of the SimpleCNN by epoch under an image-level (leaky) and a patient-level (clean) "
        "split, task {task}; mean and range over seeds.",
        "Line plot of cross-entropy loss by epoch, one line for each of the two protocols, both falling.",
    ),
    "03_scores": (
        "Scores of the SimpleCNN under an image-level and a patient-level split, task {task}, each on its "
        "own test images of other patients; 95 % intervals by bootstrap over patients. All panels have one "
        "axis.",
        "Three panels with accuracy, ROC AUC and macro F1: one estimate with its interval for the leaky "
        "and one for the clean split.",
    ),
    "03_roc": (
        "ROC curves of the SimpleCNN, each class against the rest, under the image-level and the "
        "patient-level split, task {task}, seed {seed}; each on its own test images.",
        "ROC curves, one panel a class, with a line for each of the two protocols close to one another.",
    ),
    "03_confusion_clean": (
        "Confusion matrix of the SimpleCNN under the patient-level split, task {task}, seed {seed}: "
        "numbers of test images and their share of the true class.",
        "Confusion matrix as a heat map: true classes in rows, predicted classes in columns, most images "
        "on the diagonal.",
    ),
    "04_scores": (
        "Classical models on flattened pixels ({size} px), internal patient-disjoint test, task {task}; "
        "95 % intervals by bootstrap over patients.",
        "Three panels with accuracy, ROC AUC and macro F1, task {task}: one estimate with its interval "
        "for each of logistic regression, random forest and XGBoost.",
    ),
    "05_learning_curves": (
        "Loss in training and scores on validation by epoch, task {task}, {size} px: mean and range over "
        "seeds of the main models.",
        "Line plots by epoch, one panel for the loss and one for each score, one colour a model: the loss "
        "falls, scores on validation rise and level off.",
    ),
    "05_scores": (
        "Scores on the internal patient-disjoint test, task {task}, {size} px: the mean of a model's "
        "seeds, or its only network; 95 % intervals by bootstrap over patients.",
        "Three panels with accuracy, ROC AUC and macro F1, task {task}: one estimate with its interval "
        "for each model.",
    ),
    "05_confusion": (
        "Confusion matrix of the model that validation selected, {model}, task {task}, internal test: "
        "numbers of images and their share of the true class.",
        "Confusion matrix as a heat map: true classes in rows, predicted classes in columns, most images "
        "on the diagonal.",
    ),
    "05_official_confusion": (
        "Confusion matrix of the model that validation selected, {model}, task {task}, on the official "
        "test: numbers of images and their share of the true class.",
        "Confusion matrix as a heat map: true classes in rows, predicted classes in columns.",
    ),
    "05_reliability": (
        "Share that was right by probability of the predicted class, before and after temperature "
        "scaling: {model}, {task}, {part} test, seed {seed}; vertical lines: 95 % intervals (Wilson, a "
        "patient is one trial). Below: numbers of images.",
        "Reliability diagram: share of right predictions against their probability, before and after "
        "scaling, beside the diagonal of perfect calibration; bars below show that most predictions are "
        "close to certain.",
    ),
    "05_framing_curves": (
        "Sensitivity and specificity on the {images:,} images of the internal test, framed otherwise: over 1 "
        "the middle alone is seen, under 1 the image stands on a black ground. Bands: 95 % intervals by "
        "bootstrap over patients. Networks: {models}; the last one was trained against framing.",
        "Line plots of sensitivity and specificity by zoom, one line a network: the lines of the networks "
        "that were published before fall away from zoom 1, that of the network trained against framing "
        "hardly does.",
    ),
    "05_hidden": (
        "ROC AUC of {model}, {task}, with regions of every image hidden under the mean grey; held-out "
        "images, 95 % intervals by bootstrap over patients. Dashed: chance.",
        "Dot plot of ROC AUC with its interval, one row for each region that is hidden, beside a dashed "
        "line at chance.",
    ),
    "05_grad_cam": (
        "Images above, below them what speaks for the predicted class (Grad-CAM), {model}, {task}; "
        "held-out images, drawn by chance within each class. {credit}",
        "{images} small images in a row, each with its class and what the network says, and below each "
        "the same image under a heat map.",
    ),
    "05_errors": (
        "Images of the internal test that {model} was surest about and wrong, {task}: the first {images} "
        "of {errors} errors on {tested} images. {credit}",
        "{images} small images, each under its label and the probability that the model gave to the other "
        "class.",
    ),
    "06_forest": (
        "Inflation of ROC AUC by every leak at its full dose, leaky minus clean on the same images, by "
        "task and model; 95 % intervals by bootstrap over patients, draws nested. Filled: pixels, hollow: "
        "embeddings, squares: trained networks. The scale is linear near zero and logarithmic beyond.",
        "Forest plot: leaks in rows, one panel a task, estimates with intervals for each model beside a "
        "grey band around zero that is called no difference.",
    ),
    "06_dose_response": (
        "Inflation of ROC AUC by the share of test patients with other images of theirs in training "
        "(above), or with the test image itself (below), by task and model; 95 % intervals by bootstrap "
        "over patients.",
        "Line plots of inflation against dose, one column a task and one row a leak: lines for each model "
        "start at zero; for exact copies they rise steeply, for other images of the same patient little.",
    ),
    "06_control": (
        "Inflation by other images of the same patient that the estimator finds on phantom images, by "
        "strength of identity (0: none, 1: the phantom's default, 2: larger differences between patients "
        "than between images), strength of disease and dose; 95 % intervals by bootstrap over patients.",
        "Line plots of the inflation found against the strength of identity, one panel a model: near zero "
        "without identity, rising with identity and with dose.",
    ),
    "results_answer": (
        "What each leak adds to the ROC AUC: the score with the leak minus the score without it, on the same "
        "test images and with as many training images of each class. One mark a model, the same models in "
        "every row; lines: 95 % intervals by bootstrap over patients. The grey band is the margin of "
        "{margin:g}. All panels have one scale. The row on framing has networks of "
        "its own: their ROC AUC on the images as they are minus that on the same images at the worst zoom.",
        "Dot plot with one row a leak, the largest difference of each. {words}.",
    ),
    "results_tests": (
        "Networks on the internal test, of patients of the same folder, and on the official test of other "
        "patients, normal against pneumonia: the mean of a model's seeds, or its only network; lines: 95 % "
        "intervals by bootstrap over patients. Both panels have one axis.",
        "Dot plot with one row a model and two panels, accuracy and ROC AUC: a line leads from the score on "
        "the internal test to the score on the official test. {told}.",
    ),
}


def caption(name: str, **values: object) -> dict[str, str]:
    """Return caption and alternative text of a figure, as `Run.save_figure` takes them.

    Parameters
    ----------
    name : str
        One of `CAPTIONS`.
    **values
        What stands in braces. Their text is taken as it is, braces too; ``model`` is named in words.

    Returns
    -------
    dict of str to str
        ``caption`` and ``alt``.

    Examples
    --------
    >>> caption("01_samples", credit="Synthetic images.", images=12)["alt"]
    '12 small grey pictures in rows, each under the name of its class.'
    """
    shown, alt = CAPTIONS[name]
    if "model" in values:
        values["model"] = model_name(str(values["model"]))
    return {"caption": shown.format(**values), "alt": alt.format(**values)}
