"""Pairs of training programs, alike but for one leak: what `leakfree check` has to tell apart.

`TWINS` is kind to style to (rule, leaky program, clean program). A program is a common beginning and end around the
lines that differ.
"""

_SK = """
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score, roc_curve
from sklearn.model_selection import GroupKFold, KFold, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
df = pd.read_csv("data.csv")
"""
_XY = "X = df.drop(columns=['label'])\ny = df['label']\n"
_SPLIT = "X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)\n"
_VAL = "X_fit, X_val, y_fit, y_val = train_test_split(X_train, y_train, random_state=0)\n"
_LR = "model = LogisticRegression().fit(X_train, y_train)\nprint(accuracy_score(y_test, model.predict(X_test)))\n"
_TORCH = """
import copy
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset, SubsetRandomSampler, TensorDataset, random_split
from torchvision import datasets, transforms, models
import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.metrics import f1_score, accuracy_score, roc_curve
"""
_NET = """
model = models.resnet18()
optimizer = torch.optim.Adam(model.parameters())
criterion = nn.CrossEntropyLoss()
"""
_TSPLIT = """
data = datasets.ImageFolder('images')
train_set, val_set, test_set = random_split(data, [0.7, 0.15, 0.15])
train_loader = DataLoader(train_set, batch_size=32, shuffle=True)
val_loader = DataLoader(val_set, batch_size=32)
test_loader = DataLoader(test_set, batch_size=32)
"""
_EVAL = """
def evaluate(model, loader):
    correct, total = 0, 0
    with torch.no_grad():
        for x, y in loader:
            pred = model(x).argmax(1)
            correct += (pred == y).sum().item()
            total += len(y)
    return correct / total
"""
_EPOCH = """    for x, y in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
"""
_LOOP = "for epoch in range(10):\n" + _EPOCH
_FINAL = "print(evaluate(model, test_loader))\n"
_ARRAYS = "X = np.load('images.npy')\ny = np.load('labels.npy')\n"
_TARRAYS = """
train_loader = DataLoader(TensorDataset(torch.tensor(X_train), torch.tensor(y_train)), batch_size=32, shuffle=True)
test_loader = DataLoader(TensorDataset(torch.tensor(X_test), torch.tensor(y_test)), batch_size=32)
"""
_KERAS = """
import numpy as np
import pandas as pd
from tensorflow import keras
from tensorflow.keras import layers
from tensorflow.keras.callbacks import EarlyStopping, ModelCheckpoint
from sklearn.model_selection import train_test_split, KFold, GroupKFold
from sklearn.preprocessing import StandardScaler, MinMaxScaler
from sklearn.metrics import accuracy_score, f1_score, roc_curve
def build():
    model = keras.Sequential([layers.Dense(32, activation='relu'), layers.Dense(1, activation='sigmoid')])
    model.compile(optimizer='adam', loss='binary_crossentropy', metrics=['accuracy'])
    return model
model = build()
X = np.load('X.npy')
y = np.load('y.npy')
"""
_KFIT = "model.fit(X_train, y_train, epochs=5)\nprint(model.evaluate(X_test, y_test))\n"


def _sk(leaky, clean, end=_LR, start=_XY):
    return _SK + start + leaky + end, _SK + start + clean + end


def _torch(leaky, clean, end=_TARRAYS + _NET + _EVAL + _LOOP + _FINAL, start=_ARRAYS):
    return _TORCH + start + leaky + end, _TORCH + start + clean + end


def _keras(leaky, clean, end=_KFIT):
    return _KERAS + leaky + end, _KERAS + clean + end


_SCALE = "X = StandardScaler().fit_transform(X)\n"
_SCALED = (
    "scaler = StandardScaler()\nX_train = scaler.fit_transform(X_train)\nX_test = scaler.transform(X_test)\n"
)
_SMOTE = "from imblearn.over_sampling import SMOTE\n"
_PATIENTS = """
patients = df['patient_id'].unique()
train_ids, test_ids = train_test_split(patients, random_state=0)
"""
_FRAMES = """
import cv2
frames, labels, videos = [], [], []
for number, path in enumerate(paths):
    capture = cv2.VideoCapture(path)
    while True:
        ok, frame = capture.read()
        if not ok:
            break
        frames.append(cv2.resize(frame, (64, 64)))
        labels.append(classes[number])
        videos.append(number)
"""
_CURVE = """
p_{part} = model.predict_proba(X_{part})[:, 1]
fpr, tpr, thresholds = roc_curve(y_{part}, p_{part})
best = thresholds[np.argmax(tpr - fpr)]
"""
_DATASET = """
class Films(Dataset):
    def __init__(self, files, labels, indices, transform=None):
        self.files, self.labels = files, labels
        self.indices = indices
        self.transform = transform
    def __len__(self):
        return len(self.indices)
    def __getitem__(self, i):
        row = {row}
        return self.transform(self.files[row]), self.labels[row]
"""

TWINS = {
    "scaling before the split": {
        "scikit-learn": ("scaling", *_sk(_SCALE + _SPLIT, _SPLIT + _SCALED)),
        "pytorch": (
            "scaling",
            *_torch(
                "X = (X - X.mean()) / X.std()\n" + _SPLIT,
                _SPLIT + "mean, std = X_train.mean(), X_train.std()\nX_train = (X_train - mean) / std\n"
                "X_test = (X_test - mean) / std\n",
            ),
        ),
        "keras": ("scaling", *_keras("X = MinMaxScaler().fit_transform(X)\n" + _SPLIT, _SPLIT + _SCALED)),
    },
    "scaler fitted to all, applied to parts": {
        "scikit-learn": (
            "scaling",
            *_sk(
                "scaler = StandardScaler().fit(X)\n"
                + _SPLIT
                + "X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)\n",
                _SPLIT + "scaler = StandardScaler().fit(X_train)\n"
                "X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)\n",
            ),
        ),
        "keras": (
            "scaling",
            *_keras(
                _SPLIT
                + "norm = layers.Normalization()\nnorm.adapt(X)\nX_train, X_test = norm.transform(X_train), "
                "norm.transform(X_test)\n",
                _SPLIT + "norm = layers.Normalization()\nnorm.adapt(X_train)\nX_train, X_test = "
                "norm.transform(X_train), norm.transform(X_test)\n",
            ),
        ),
    },
    "selection before the split": {
        "scikit-learn": (
            "selection",
            *_sk(
                "from sklearn.feature_selection import SelectKBest\nX = SelectKBest(k=20).fit_transform(X, y)\n"
                + _SPLIT,
                "from sklearn.feature_selection import SelectKBest\n"
                + _SPLIT
                + "select = SelectKBest(k=20)\n"
                "X_train = select.fit_transform(X_train, y_train)\nX_test = select.transform(X_test)\n",
            ),
        ),
        "pytorch": (
            "selection",
            *_torch(
                "df = pd.DataFrame(X)\ncorrelations = df.corrwith(pd.Series(y))\nX = df[correlations.abs() > 0.2]\n"
                + _SPLIT,
                _SPLIT
                + "train = pd.DataFrame(X_train)\nkept = train.corrwith(pd.Series(y_train)).abs() > 0.2\n"
                "X_train, X_test = train.loc[:, kept], pd.DataFrame(X_test).loc[:, kept]\n",
                start="import pandas as pd\n" + _ARRAYS,
            ),
        ),
    },
    "PCA before the split": {
        "scikit-learn": (
            "reduction",
            *_sk(
                "from sklearn.decomposition import PCA\npca = PCA(n_components=50)\nX = pca.fit_transform(X)\n"
                + _SPLIT,
                "from sklearn.decomposition import PCA\n"
                + _SPLIT
                + "pca = PCA(n_components=50).fit(X_train)\n"
                "X_train, X_test = pca.transform(X_train), pca.transform(X_test)\n",
            ),
        ),
        "keras": (
            "reduction",
            *_keras(
                "from sklearn.decomposition import PCA\nX = PCA(50).fit_transform(X)\n" + _SPLIT,
                "from sklearn.decomposition import PCA\n"
                + _SPLIT
                + "pca = PCA(50)\nX_train = pca.fit_transform(X_train)\n"
                "X_test = pca.transform(X_test)\n",
            ),
        ),
    },
    "gaps filled before the split": {
        "scikit-learn": (
            "imputation",
            *_sk(
                "X = X.fillna(X.mean())\n" + _SPLIT,
                _SPLIT + "means = X_train.mean()\nX_train = X_train.fillna(means)\n"
                "X_test = X_test.fillna(means)\n",
            ),
        ),
        "keras": (
            "imputation",
            *_keras(
                "from sklearn.impute import SimpleImputer\nX = SimpleImputer().fit_transform(X)\n" + _SPLIT,
                "from sklearn.impute import SimpleImputer\n" + _SPLIT + "imputer = SimpleImputer()\n"
                "X_train = imputer.fit_transform(X_train)\nX_test = imputer.transform(X_test)\n",
            ),
        ),
    },
    "vocabulary before the split": {
        "scikit-learn": (
            "vectorising",
            *_sk(
                "from sklearn.feature_extraction.text import TfidfVectorizer\n"
                "X = TfidfVectorizer().fit_transform(df['report'])\n" + _SPLIT,
                "from sklearn.feature_extraction.text import TfidfVectorizer\n"
                + _SPLIT
                + "words = TfidfVectorizer()\nX_train = words.fit_transform(X_train['report'])\n"
                "X_test = words.transform(X_test['report'])\n",
            ),
        ),
        "keras": (
            "vectorising",
            *_keras(
                "from tensorflow.keras.preprocessing.text import Tokenizer\ntokens = Tokenizer()\n"
                "tokens.fit_on_texts(X)\nX = tokens.texts_to_sequences(X)\n" + _SPLIT,
                "from tensorflow.keras.preprocessing.text import Tokenizer\ntokens = Tokenizer()\n"
                + _SPLIT
                + "tokens.fit_on_texts(X_train)\nX_train = tokens.texts_to_sequences(X_train)\n"
                "X_test = tokens.texts_to_sequences(X_test)\n",
            ),
        ),
    },
    "oversampling before the split": {
        "scikit-learn": (
            "oversampling",
            *_sk(
                _SMOTE + "X, y = SMOTE().fit_resample(X, y)\n" + _SPLIT,
                _SMOTE + _SPLIT + "X_train, y_train = SMOTE().fit_resample(X_train, y_train)\n",
            ),
        ),
        "pytorch": (
            "oversampling",
            *_torch(
                "rare = X[y == 1]\nX = np.concatenate([X, np.repeat(rare, 3, axis=0)])\n"
                "y = np.concatenate([y, np.ones(3 * len(rare))])\n" + _SPLIT,
                _SPLIT
                + "rare = X_train[y_train == 1]\nX_train = np.concatenate([X_train, np.repeat(rare, 3, axis=0)])\n"
                "y_train = np.concatenate([y_train, np.ones(3 * len(rare))])\n",
            ),
        ),
        "keras": (
            "oversampling",
            *_keras(
                "from sklearn.utils import resample\nrare = X[y == 1]\nmore = resample(rare, n_samples=500)\n"
                "X = np.vstack([X[y == 0], more])\ny = np.r_[np.zeros(500), np.ones(500)]\n" + _SPLIT,
                "from sklearn.utils import resample\n" + _SPLIT + "rare = X_train[y_train == 1]\n"
                "more = resample(rare, n_samples=500)\nX_train = np.vstack([X_train[y_train == 0], more])\n"
                "y_train = np.r_[np.zeros(500), np.ones(500)]\n",
            ),
        ),
    },
    "oversampling before the folds": {
        "scikit-learn": (
            "oversampling",
            *_sk(
                _SMOTE
                + "X_all, y_all = SMOTE().fit_resample(X, y)\nscores = cross_val_score(LogisticRegression(), X_all, y_all, cv=5)\n",
                _SMOTE + "from imblearn.pipeline import make_pipeline\n"
                "scores = cross_val_score(make_pipeline(SMOTE(), LogisticRegression()), X, y, cv=5)\n",
                end="",
            ),
        ),
        "scikit-learn, in training": (
            "oversampling",
            *_sk(
                _SMOTE + _SPLIT + "X_train, y_train = SMOTE().fit_resample(X_train, y_train)\n"
                "scores = cross_val_score(LogisticRegression(), X_train, y_train, cv=5)\n",
                _SMOTE + _SPLIT + "scores = cross_val_score(LogisticRegression(), X_train, y_train, cv=5)\n"
                "X_train, y_train = SMOTE().fit_resample(X_train, y_train)\n",
            ),
        ),
        "keras": (
            "oversampling",
            *_keras(
                _SMOTE
                + "X, y = SMOTE().fit_resample(X, y)\nfor train, test in KFold(5).split(X, y):\n    model = build()\n"
                "    model.fit(X[train], y[train])\n    print(model.evaluate(X[test], y[test]))\n",
                _SMOTE + "for train, test in KFold(5).split(X, y):\n    model = build()\n"
                "    more, labels = SMOTE().fit_resample(X[train], y[train])\n    model.fit(more, labels)\n"
                "    print(model.evaluate(X[test], y[test]))\n",
                end="",
            ),
        ),
    },
    "augmentation before the split": {
        "pytorch": (
            "augmentation",
            *_torch(
                "X = np.concatenate([X, np.flip(X, axis=2)])\ny = np.concatenate([y, y])\n" + _SPLIT,
                _SPLIT + "X_train = np.concatenate([X_train, np.flip(X_train, axis=2)])\n"
                "y_train = np.concatenate([y_train, y_train])\n",
            ),
        ),
        "keras": (
            "augmentation",
            *_keras(
                "images, labels = [], []\nfor image, label in zip(X, y):\n    images.append(image)\n"
                "    images.append(np.fliplr(image))\n    labels += [label, label]\n"
                "X, y = np.array(images), np.array(labels)\n" + _SPLIT,
                _SPLIT
                + "images, labels = [], []\nfor image, label in zip(X_train, y_train):\n    images.append(image)\n"
                "    images.append(np.fliplr(image))\n    labels += [label, label]\n"
                "X_train, y_train = np.array(images), np.array(labels)\n",
            ),
        ),
    },
    "copies dropped in parts alone": {
        "scikit-learn": (
            "deduplication",
            *_sk(
                "train, test = train_test_split(df)\ntrain = train.drop_duplicates()\n",
                "df = df.drop_duplicates()\ntrain, test = train_test_split(df)\n",
                end="model = LogisticRegression().fit(train.drop(columns='label'), train['label'])\n"
                "print(model.score(test.drop(columns='label'), test['label']))\n",
            ),
        ),
        "pytorch": (
            "deduplication",
            *_torch(
                "train, test = train_test_split(df)\ntrain.drop_duplicates(subset='hash', inplace=True)\n",
                "df.drop_duplicates(subset='hash', inplace=True)\ntrain, test = train_test_split(df)\n",
                start="import pandas as pd\ndf = pd.read_csv('films.csv')\n",
                end="train_loader = DataLoader(Films(train), batch_size=8)\ntest_loader = DataLoader(Films(test))\n"
                + _NET
                + _EVAL
                + _LOOP
                + _FINAL,
            ),
        ),
    },
    "fitted to the test part": {
        "scikit-learn": (
            "fit-on-test",
            *_sk(
                _SPLIT + "scaler = StandardScaler()\nX_train = scaler.fit_transform(X_train)\n"
                "X_test = scaler.fit_transform(X_test)\n",
                _SPLIT + _SCALED,
            ),
        ),
        "pytorch": (
            "fit-on-test",
            *_torch(
                _LOOP + _LOOP.replace("train_loader", "test_loader") + _FINAL,
                _LOOP + _FINAL,
                start=_TSPLIT + _NET + _EVAL,
                end="",
            ),
        ),
        "keras": (
            "fit-on-test",
            *_keras(
                _SPLIT + "model.fit(X_train, y_train)\nmodel.fit(X_test, y_test)\n",
                _SPLIT + "model.fit(X_train, y_train)\n",
                end="print(model.evaluate(X_test, y_test))\n",
            ),
        ),
    },
    "trained on all rows": {
        "scikit-learn": (
            "overlap",
            *_sk(
                _SPLIT + "model = LogisticRegression().fit(X, y)\n",
                _SPLIT + "model = LogisticRegression().fit(X_train, y_train)\n",
                end="print(accuracy_score(y_test, model.predict(X_test)))\n",
            ),
        ),
        "keras": (
            "overlap",
            *_keras(
                _SPLIT + "model.fit(X, y, epochs=3)\n",
                _SPLIT + "model.fit(X_train, y_train, epochs=3)\n",
                end="print(model.evaluate(X_test, y_test))\n",
            ),
        ),
    },
    "a loader that ignores its subset": {
        "pytorch": (
            "loader-ignores-subset",
            *_torch(
                "train_loader = DataLoader(data, batch_size=32, shuffle=True)\ntest_loader = DataLoader(test_set)\n",
                "train_loader = DataLoader(train_set, batch_size=32, shuffle=True)\ntest_loader = DataLoader(test_set)\n",
                start="data = datasets.ImageFolder('images')\ntrain_set, test_set = random_split(data, [0.8, 0.2])\n",
                end=_NET + _EVAL + _LOOP + _FINAL,
            ),
        ),
        "pytorch, own class": (
            "loader-ignores-subset",
            *_torch(
                _DATASET.replace("{row}", "i"),
                _DATASET.replace("{row}", "self.indices[i]"),
                start="",
                end="train_idx, test_idx = train_test_split(range(len(files)))\n"
                "train_loader = DataLoader(Films(files, labels, train_idx))\n"
                "test_loader = DataLoader(Films(files, labels, test_idx))\n" + _NET + _EVAL + _LOOP + _FINAL,
            ),
        ),
        "pytorch, sampler": (
            "loader-ignores-subset",
            *_torch(
                "train_loader = DataLoader(data, 32, shuffle=True)\ntest_loader = DataLoader(data, 32)\n",
                "train_loader = DataLoader(data, 32, sampler=SubsetRandomSampler(train_idx))\n"
                "test_loader = DataLoader(data, 32, sampler=SubsetRandomSampler(test_idx))\n",
                start="data = datasets.ImageFolder('images')\ntrain_idx, test_idx = train_test_split(np.arange(len(data)))\n"
                "train_set = Subset(data, train_idx)\n",
                end=_NET + _EVAL + _LOOP + _FINAL,
            ),
        ),
    },
    "split by row, a patient column in sight": {
        "scikit-learn": (
            "groups",
            *_sk(
                "ids = df['patient_id']\n" + _SPLIT,
                _PATIENTS
                + "train, test = df[df['patient_id'].isin(train_ids)], df[df['patient_id'].isin(test_ids)]\n"
                "X_train, y_train = train.drop(columns='label'), train['label']\n"
                "X_test, y_test = test.drop(columns='label'), test['label']\n",
            ),
        ),
        "scikit-learn, folds": (
            "groups",
            *_sk(
                "scores = cross_val_score(LogisticRegression(), X, y, cv=KFold(5))\nn = df['PatientID'].nunique()\n",
                "scores = cross_val_score(LogisticRegression(), X, y, groups=df['PatientID'], cv=GroupKFold(5))\n",
                end="",
            ),
        ),
        "pytorch": (
            "groups",
            *_torch(
                "n = df['Patient ID'].nunique()\ntrain, test = train_test_split(df, test_size=0.2)\n",
                "ids = df['Patient ID'].unique()\ntrain_ids, test_ids = train_test_split(ids, test_size=0.2)\n"
                "train = df[df['Patient ID'].isin(train_ids)]\ntest = df[df['Patient ID'].isin(test_ids)]\n",
                start="import pandas as pd\ndf = pd.read_csv('films.csv')\n",
                end="train_loader = DataLoader(Films(train))\ntest_loader = DataLoader(Films(test))\n"
                + _NET
                + _EVAL
                + _LOOP
                + _FINAL,
            ),
        ),
        "keras": (
            "groups",
            *_keras(
                "subject = np.load('subject_ids.npy')\nfor train, test in KFold(5).split(X, y):\n    model = build()\n"
                "    model.fit(X[train], y[train])\n    print(model.evaluate(X[test], y[test]), subject_ids[test])\n",
                "subject_ids = np.load('subject_ids.npy')\nfor train, test in GroupKFold(5).split(X, y, subject_ids):\n"
                "    model = build()\n    model.fit(X[train], y[train])\n"
                "    print(model.evaluate(X[test], y[test]), subject_ids[test])\n",
                end="",
            ),
        ),
    },
    "groups given to folds that ignore them": {
        "scikit-learn": (
            "groups",
            *_sk(
                "groups = df['patient_id']\nfor train, test in KFold(5).split(X, y, groups):\n"
                "    model = LogisticRegression().fit(X.iloc[train], y.iloc[train])\n"
                "    print(model.score(X.iloc[test], y.iloc[test]))\n",
                "groups = df['patient_id']\nfor train, test in GroupKFold(5).split(X, y, groups):\n"
                "    model = LogisticRegression().fit(X.iloc[train], y.iloc[train])\n"
                "    print(model.score(X.iloc[test], y.iloc[test]))\n",
                end="",
            ),
        ),
        "keras": (
            "groups",
            *_keras(
                "for train, test in KFold(5).split(X, y, groups=groups):\n    model = build()\n"
                "    model.fit(X[train], y[train])\n    print(model.evaluate(X[test], y[test]))\n",
                "for train, test in GroupKFold(5).split(X, y, groups=groups):\n    model = build()\n"
                "    model.fit(X[train], y[train])\n    print(model.evaluate(X[test], y[test]))\n",
                end="",
            ),
        ),
    },
    "frames shuffled one by one": {
        "keras": (
            "frames",
            *_keras(
                _FRAMES + "X, y = np.array(frames), np.array(labels)\n" + _SPLIT,
                _FRAMES
                + "from sklearn.model_selection import GroupShuffleSplit\nX, y = np.array(frames), np.array(labels)\n"
                "train, test = next(GroupShuffleSplit(1).split(X, y, groups=videos))\n"
                "X_train, X_test, y_train, y_test = X[train], X[test], y[train], y[test]\n",
            ),
        ),
        "scikit-learn": (
            "frames",
            *_sk(
                "patches = df[['patch', 'slide_id']]\ntrain, test = train_test_split(df, shuffle=True)\n",
                "slides = df['slide_id'].unique()\ntrain_ids, test_ids = train_test_split(slides)\n"
                "train, test = df[df['slide_id'].isin(train_ids)], df[df['slide_id'].isin(test_ids)]\n",
                end="model = LogisticRegression().fit(train.drop(columns='label'), train['label'])\n",
            ),
        ),
        "pytorch": (
            "frames",
            *_torch(
                "frames = np.load('frames.npy')\ndata = TensorDataset(torch.tensor(frames))\n"
                "train_set, test_set = random_split(data, [800, 200])\n",
                "frames = np.load('frames.npy')\ntrain_videos, test_videos = train_test_split(np.unique(video_ids))\n"
                "train_set = TensorDataset(torch.tensor(frames[np.isin(video_ids, train_videos)]))\n"
                "test_set = TensorDataset(torch.tensor(frames[np.isin(video_ids, test_videos)]))\n",
                end="train_loader, test_loader = DataLoader(train_set), DataLoader(test_set)\n"
                + _NET
                + _EVAL
                + _LOOP
                + _FINAL,
            ),
        ),
    },
    "test decides when to stop": {
        "pytorch": (
            "test-chooses-epoch",
            *_torch(
                _LOOP
                + "    acc = evaluate(model, test_loader)\n    if acc > best_acc:\n        best_acc = acc\n"
                "        torch.save(model.state_dict(), 'best.pt')\n",
                _LOOP
                + "    acc = evaluate(model, val_loader)\n    if acc > best_acc:\n        best_acc = acc\n"
                "        torch.save(model.state_dict(), 'best.pt')\n",
                start=_TSPLIT + _NET + _EVAL + "best_acc = 0\n",
                end=_FINAL,
            ),
        ),
        "keras": (
            "test-chooses-epoch",
            *_keras(
                _SPLIT
                + "model.fit(X_train, y_train, validation_data=(X_test, y_test), callbacks=[EarlyStopping(patience=3)])\n",
                _SPLIT
                + _VAL
                + "model.fit(X_fit, y_fit, validation_data=(X_val, y_val), callbacks=[EarlyStopping(patience=3)])\n",
                end="print(model.evaluate(X_test, y_test))\n",
            ),
        ),
        "xgboost": (
            "test-chooses-epoch",
            *_sk(
                "from xgboost import XGBClassifier\n"
                + _SPLIT
                + "model = XGBClassifier(early_stopping_rounds=5)\n"
                "model.fit(X_train, y_train, eval_set=[(X_test, y_test)])\n",
                "from xgboost import XGBClassifier\n"
                + _SPLIT
                + _VAL
                + "model = XGBClassifier(early_stopping_rounds=5)\n"
                "model.fit(X_fit, y_fit, eval_set=[(X_val, y_val)])\n",
                end="print(accuracy_score(y_test, model.predict(X_test)))\n",
            ),
        ),
    },
    "test chooses the threshold": {
        "scikit-learn": (
            "test-chooses-threshold",
            *_sk(
                _SPLIT
                + "model = LogisticRegression().fit(X_train, y_train)\n"
                + _CURVE.replace("{part}", "test"),
                _SPLIT
                + _VAL
                + "model = LogisticRegression().fit(X_fit, y_fit)\n"
                + _CURVE.replace("{part}", "val"),
                end="p = model.predict_proba(X_test)[:, 1]\nprint(f1_score(y_test, p >= best))\n",
            ),
        ),
        "keras": (
            "test-chooses-threshold",
            *_keras(
                _SPLIT + "model.fit(X_train, y_train)\np_test = model.predict(X_test)\nbest_f1 = 0\n"
                "for threshold in np.arange(0.1, 0.9, 0.05):\n    f1 = f1_score(y_test, p_test > threshold)\n"
                "    if f1 > best_f1:\n        best_f1, best_threshold = f1, threshold\n",
                _SPLIT + _VAL + "model.fit(X_fit, y_fit)\np_val = model.predict(X_val)\nbest_f1 = 0\n"
                "for threshold in np.arange(0.1, 0.9, 0.05):\n    f1 = f1_score(y_val, p_val > threshold)\n"
                "    if f1 > best_f1:\n        best_f1, best_threshold = f1, threshold\n",
                end="print(f1_score(y_test, model.predict(X_test) > best_threshold))\n",
            ),
        ),
    },
    "test chooses the settings": {
        "scikit-learn": (
            "test-chooses-settings",
            *_sk(
                _SPLIT
                + "best_score = 0\nfor C in [0.01, 0.1, 1, 10]:\n    model = LogisticRegression(C=C).fit(X_train, y_train)\n"
                "    score = model.score(X_test, y_test)\n    if score > best_score:\n        best_score, best_C = score, C\n",
                _SPLIT
                + _VAL
                + "best_score = 0\nfor C in [0.01, 0.1, 1, 10]:\n    model = LogisticRegression(C=C).fit(X_fit, y_fit)\n"
                "    score = model.score(X_val, y_val)\n    if score > best_score:\n        best_score, best_C = score, C\n",
                end="print(best_C)\n",
            ),
        ),
        "keras": (
            "test-chooses-settings",
            *_keras(
                _SPLIT
                + "best_score = 0\nfor width in [16, 32, 64]:\n    model = build()\n    model.fit(X_train, y_train)\n"
                "    loss, score = model.evaluate(X_test, y_test)\n    if score > best_score:\n"
                "        best_score, best_width = score, width\n",
                _SPLIT
                + _VAL
                + "best_score = 0\nfor width in [16, 32, 64]:\n    model = build()\n    model.fit(X_fit, y_fit)\n"
                "    loss, score = model.evaluate(X_val, y_val)\n    if score > best_score:\n"
                "        best_score, best_width = score, width\n",
                end="print(best_width)\n",
            ),
        ),
    },
    "several models on one test part": {
        "scikit-learn": (
            "multi-test",
            *_sk(
                _SPLIT + "a = LogisticRegression().fit(X_train, y_train)\nb = SVC().fit(X_train, y_train)\n"
                "print(a.score(X_test, y_test))\nprint(b.score(X_test, y_test))\n",
                _SPLIT + _VAL + "a = LogisticRegression().fit(X_fit, y_fit)\nb = SVC().fit(X_fit, y_fit)\n"
                "print(a.score(X_val, y_val))\nprint(b.score(X_val, y_val))\nprint(b.score(X_test, y_test))\n",
                start="from sklearn.svm import SVC\n" + _XY,
                end="",
            ),
        ),
        "keras": (
            "multi-test",
            *_keras(
                _SPLIT + "for width in (16, 32):\n    model = build()\n    model.fit(X_train, y_train)\n"
                "    print(accuracy_score(y_test, model.predict(X_test) > 0.5))\n",
                _SPLIT + _VAL + "for width in (16, 32):\n    model = build()\n    model.fit(X_fit, y_fit)\n"
                "    print(accuracy_score(y_val, model.predict(X_val) > 0.5))\n",
                end="",
            ),
        ),
    },
    "the best model is another name": {
        "pytorch": (
            "best-model-alias",
            *_torch(
                _LOOP
                + "    acc = evaluate(model, val_loader)\n    if acc > best_acc:\n        best_acc = acc\n"
                "        best_model = model\n",
                _LOOP
                + "    acc = evaluate(model, val_loader)\n    if acc > best_acc:\n        best_acc = acc\n"
                "        best_model = copy.deepcopy(model)\n",
                start=_TSPLIT + _NET + _EVAL + "best_acc = 0\n",
                end="print(evaluate(best_model, test_loader))\n",
            ),
        ),
        "pytorch, weights": (
            "best-model-alias",
            *_torch(
                _LOOP
                + "    acc = evaluate(model, val_loader)\n    if acc > best_acc:\n        best_acc = acc\n"
                "        best_weights = model.state_dict()\n",
                _LOOP
                + "    acc = evaluate(model, val_loader)\n    if acc > best_acc:\n        best_acc = acc\n"
                "        best_weights = copy.deepcopy(model.state_dict())\n",
                start=_TSPLIT + _NET + _EVAL + "best_acc = 0\n",
                end="model.load_state_dict(best_weights)\nprint(evaluate(model, test_loader))\n",
            ),
        ),
        "keras": (
            "best-model-alias",
            *_keras(
                _SPLIT + _VAL + "best = 0\nfor epoch in range(20):\n    model.fit(X_fit, y_fit, epochs=1)\n"
                "    acc = model.evaluate(X_val, y_val)[1]\n    if acc > best:\n        best, best_model = acc, None\n"
                "        best_model = model\n",
                _SPLIT + _VAL + "best = 0\nfor epoch in range(20):\n    model.fit(X_fit, y_fit, epochs=1)\n"
                "    acc = model.evaluate(X_val, y_val)[1]\n    if acc > best:\n        best = acc\n"
                "        best_weights = model.get_weights()\n",
                end="print(model.evaluate(X_test, y_test))\n",
            ),
        ),
    },
}

_PCA = "from sklearn.decomposition import PCA\n"
_FOLDERS = """
from tensorflow.keras.preprocessing.image import ImageDataGenerator
plain = ImageDataGenerator(rescale=1 / 255)
train_images = plain.flow_from_directory('images/train', target_size=(64, 64))
val_images = plain.flow_from_directory('images/val', target_size=(64, 64))
test_images = plain.flow_from_directory(directory='images/test', target_size=(64, 64))
stop = EarlyStopping(patience=3)
model.fit_generator(generator=train_images, validation_data={part}_images, callbacks=[stop])
print(model.evaluate(test_images))
"""
_HELD = _SPLIT + "X_calibrate, X_final, y_calibrate, y_final = train_test_split(X_test, y_test)\n"
#: What public code was wrongly blamed for, or wrongly let pass, beside the like of it that is, or is not, a leak.
CONFUSED = {
    "a branch that never runs": (
        "multi-test",
        *(
            _SK + _XY + _SPLIT + "a = LogisticRegression().fit(X_train, y_train)\nprint(a.score(X_test, y_test))\n"
            f"if {condition}:\n    b = SVC().fit(X_train, y_train)\n    print(b.score(X_test, y_test))\n"
            for condition in ("'pca' == 'pca'", "'student' == 'pca'")
        ),
    ),
    "a part that only its place makes the test part": (
        "fit-on-test",
        *(
            _SK + _XY + _HELD + f"model = LogisticRegression().fit({name}, y)\n"
            for name in ("X_test", "X_calibrate")
        ),
    ),
    "test rows projected for a picture": (
        "fit-on-test",
        *_sk(
            _PCA + _SPLIT + "X_test = PCA(2).fit_transform(X_test)\n" + _LR,
            _PCA + _SPLIT + _LR + "plane = PCA(2).fit_transform(X_test)\nplt.scatter(plane[:, 0], plane[:, 1])\n",
            end="",
        ),
    ),
    "a table called frame": (
        "frames",
        *(
            f"import numpy as np\nfrom sklearn.model_selection import KFold\n{name} = np.load('x.npy')\n"
            f"for train, test in KFold(5).split({name}):\n    fit({name}[train])\n"
            for name in ("frames", "frame")
        ),
    ),
    "tables that are joined": (
        "frames",
        *(
            "import numpy as np\nimport pandas as pd\nfrom sklearn.model_selection import train_test_split\n"
            f"frames = [read(path) for path in glob('*')]\ntrain, test = train_test_split({joined}(frames))\n"
            for joined in ("np.concatenate", "pd.concat")
        ),
    ),
    "some of the training rows again": (
        "scaling",
        *(
            _SK + "scaler = StandardScaler().fit(df)\n" + more
            for more in (
                "test_rows = df.iloc[500:]\nprint(scaler.transform(test_rows))\n",
                "some_train_rows = df.iloc[:5]\nprint(scaler.transform(some_train_rows))\n",
            )
        ),
    ),
    "a model that does not learn any more": (
        "groups",
        *(
            _SK + "ids = df['patient_id']\n" + _XY
            + f"p = cross_val_predict({model}, X, y, cv=LeaveOneOut())\nprint(ids.iloc[0])\n"
            for model in ("LogisticRegression()", "FrozenEstimator(model)")
        ),
    ),
    "a stop by images of folders": (
        "test-chooses-epoch",
        *(_KERAS + _FOLDERS.replace("{part}", part) for part in ("test", "val")),
    ),
    "a test part of its own in every round": (
        "multi-test",
        *(
            _SK + _XY + _SPLIT + "for seed in range(5):\n" + again
            + "    model = LogisticRegression().fit(X_train, y_train)\n    print(model.score(X_test, y_test))\n"
            for again in (
                "    print(cross_val_score(LogisticRegression(), X, y))\n    " + _VAL,
                "    " + _SPLIT,
            )
        ),
    ),
    "a column as an attribute": (
        "imputation",
        *_sk("X.age = X.age.fillna(X.age.median())\n" + _SPLIT, "X.age = X.age.fillna(0)\n" + _SPLIT),
    ),
    "parts that a function of another file gives": (
        "test-chooses-epoch",
        *(
            _KERAS + "from mine import six\nX_train, y_train, X_val, y_val, X_test, y_test = six(seed=1)\n"
            f"model.fit(X_train, y_train, validation_data=(X_{part}, y_{part}), callbacks=[EarlyStopping()])\n"
            for part in ("test", "val")
        ),
    ),
}  # fmt: skip

_START = (1, _SK + "from sklearn.svm import SVC\n" + _XY)
_FIT = "model = LogisticRegression().fit({0}, y{1})\n"
_SCORE = "print(accuracy_score(y_test, model.predict(X_test)))\n"
_PREPARED = "def prepared(table):\n    table = StandardScaler().fit_transform(table)\n    return table\n"
_TRIED = "def tried(model):\n    model.fit({0}, y{1})\n    return model.score(X_{2}, y_{2})\n"
_TWO = "print(tried(LogisticRegression()))\nprint(tried(SVC()))\n"
#: The three kinds of Yang et al. (2022), each in styles of notebooks: kind to style to (rule, leaky, clean); each a
#: list of cells with the number by which they ran.
NOTEBOOKS = {
    "overlap": {
        "through an alias and a function": (
            "overlap",
            *(
                [_START, (2, _SPLIT + f"rows, answers = {rows}, {answers}\n"),
                 (3, "def learned(a, b):\n    return LogisticRegression().fit(a, b)\n"),
                 (4, "model = learned(rows, answers)\n" + _SCORE)]
                for rows, answers in (("X", "y"), ("X_train", "y_train"))
            ),
        ),
        "in a loop": (
            "oversampling",
            *(
                [_START, (2, _SMOTE + "parts = []\n"),
                 (3, "for seed in range(3):\n"
                     + ("    X2, y2 = SMOTE().fit_resample(X, y)\n    a, b, c, d = train_test_split(X2, y2)\n"
                        if leaks else
                        "    a, b, c, d = train_test_split(X, y)\n    a, c = SMOTE().fit_resample(a, c)\n")
                     + "    parts.append(LogisticRegression().fit(a, c).score(b, d))\n")]
                for leaks in (True, False)
            ),
        ),
        "out of order": (
            "overlap",
            [_START, (3, _FIT.format("X", "")), (2, _SPLIT), (4, _SCORE)],
            [_START, (3, _FIT.format("X_train", "_train")), (2, _SPLIT), (4, _SCORE)],
        ),
        "behind magics": (
            "overlap",
            [_START, (2, "!ls data\n" + _SPLIT), (3, "%%time\n" + _FIT.format("X", "")), (4, _SCORE)],
            [_START, (2, "!ls data\n" + _SPLIT), (3, "%%time\n" + _FIT.format("X_train", "_train")), (4, _SCORE)],
        ),
    },
    "preprocessing": {
        "through an alias and a function": (
            "scaling",
            [_START, (2, _PREPARED), (3, "table = X\nX = prepared(table)\n" + _SPLIT), (4, _LR)],
            [_START, (2, _SPLIT), (3, "table = X_train\nscaler = StandardScaler().fit(table)\n"
                                      "X_train, X_test = scaler.transform(table), scaler.transform(X_test)\n"), (4, _LR)],
        ),
        "in a loop": (
            "imputation",
            [_START, (2, "for name in list(X):\n    X[name] = X[name].fillna(X[name].mean())\n" + _SPLIT), (3, _LR)],
            [_START, (2, "for name in list(X):\n    X[name] = X[name].fillna(0)\n" + _SPLIT), (3, _LR)],
        ),
        "out of order": (
            "scaling",
            [_START, (3, _SPLIT), (2, _SCALE), (4, _LR)],
            [_START, (2, _SPLIT), (3, _SCALED), (4, _LR)],
        ),
        "behind magics": (
            "scaling",
            [_START, (2, "%%capture\n" + _SCALE), (3, "%time pass\n" + _SPLIT), (4, _LR)],
            [_START, (2, "%%capture\n" + _SPLIT), (3, "%time pass\n" + _SCALED), (4, _LR)],
        ),
    },
    "multi-test": {
        "through a function": (
            "multi-test",
            *(
                [_START, (2, _SPLIT + _VAL), (3, _TRIED.format("X_fit", "_fit", part)), (4, _TWO)]
                for part in ("test", "val")
            ),
        ),
        "in a loop": (
            "multi-test",
            *(
                [_START, (2, _SPLIT + _VAL),
                 (3, f"for model in (LogisticRegression(), SVC()):\n    model.fit(X_fit, y_fit)\n"
                     f"    print(f1_score(y_{part}, model.predict(X_{part})))\n")]
                for part in ("test", "val")
            ),
        ),
        "out of order": (
            "multi-test",
            *(
                [_START, (4, _TWO), (2, _SPLIT + _VAL), (3, _TRIED.format("X_fit", "_fit", part))]
                for part in ("test", "val")
            ),
        ),
        "behind magics": (
            "multi-test",
            *(
                [_START, (2, _SPLIT + _VAL), (3, _TRIED.format("X_fit", "_fit", part)), (4, "%%timeit -n 1\n" + _TWO)]
                for part in ("test", "val")
            ),
        ),
    },
}  # fmt: skip
