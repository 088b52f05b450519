"""The container: a small image that runs as nobody; its steps can be followed without an engine."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib import metadata

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from leakfree import __version__

#: What a service has no use for: the rest of the study.
NOT_LOADED = (
    "sklearn",
    "pandas",
    "scipy",
    "torchvision",
    "deeplake",
    "matplotlib",
    "waitress",
    "tqdm",
    "rich",
)

#: Runs the service's application as the image would: with nothing to import but what was listed.
SERVES = """
import io, json, sys
from importlib import metadata
allowed = set(json.loads(sys.argv[1]))
tops = metadata.packages_distributions()
norm = lambda name: name.lower().replace("_", "-").replace(".", "-")
hidden = {top for top, names in tops.items() if not {norm(n) for n in names} & allowed}

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"{name} is not in the image", name=name)

sys.meta_path.insert(0, Hide())
import leakfree.cli
import leakfree.serving.server
import leakfree.serving.worker
from leakfree.predict.classifier import Classifier
from leakfree.serving.app import create_app
from leakfree.serving.monitoring import log_as_json
from leakfree.serving.settings import ServiceSettings
import gunicorn.app.base, prometheus_client.multiprocess
log_as_json()
app = create_app(Classifier.load(sys.argv[2]), ServiceSettings(model=sys.argv[2]))
app.extensions["batcher"].start()
client = app.test_client()
with open(sys.argv[3], "rb") as image:
    form = {"image": (io.BytesIO(image.read()), "image.png"), "overlay": "true"}
answers = [client.post("/predict", data=form)]
answers += map(client.get, ("/health", "/openapi.json", "/"))
answers.append(client.get("/metrics", base_url="http://127.0.0.1:9697"))
loaded = {name.partition(".")[0] for name in list(sys.modules)}
print(json.dumps([[a.status_code for a in answers], sorted(loaded)]))
"""


@pytest.fixture(scope="module")
def replay(repository):
    spec = importlib.util.spec_from_file_location("replay", repository / "container" / "replay.py")
    module = sys.modules["replay"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["replay"]


@pytest.fixture(scope="module")
def text(repository):
    return (repository / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def stages(replay, text):
    """The stages as they are after all that needs no engine."""
    found = replay.parse(text)
    for stage in found:
        for step in stage.steps:
            if step.word not in ("COPY", "RUN", "WORKDIR"):
                replay.apply(step, stage, {})
    return found


@pytest.fixture(scope="module")
def service(repository):
    compose = yaml.safe_load((repository / "compose.yaml").read_text(encoding="utf-8"))
    (only,) = compose["services"].values()
    return only


@pytest.fixture(scope="module")
def listed(repository):
    """Names in the image's own list."""
    lines = (repository / "container" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def installed(listed):
    """Everything that pip brings along for the list on this system."""
    found, open_ = set(), list(listed)
    while open_:
        requirement = Requirement(open_.pop())
        name = canonicalize_name(requirement.name)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if not wanted or (name, *requirement.extras) in found:
            continue
        found.add((name, *requirement.extras))
        for line in metadata.requires(name) or []:
            inner = Requirement(line)
            extras = ("", *requirement.extras)
            if inner.marker is None or any(inner.marker.evaluate({"extra": e}) for e in extras):
                inner.marker = None
                open_.append(str(inner))
    return {name for name, *_ in found}


# The Dockerfile


def test_hadolint_has_nothing_to_say(repository):
    beside = shutil.which("hadolint", path=str(sys.executable).rpartition("/")[0])
    hadolint = beside or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run(
        [hadolint, "--no-color", "Dockerfile"], cwd=repository, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert "hadolint" not in (repository / "Dockerfile").read_text(encoding="utf-8"), "a rule is switched off"


def test_the_image_is_of_the_study_s_python_and_names_a_version(stages, repository):
    (builder, final) = stages
    assert builder.base == final.base == "python:3.11-slim-bookworm"
    assert "python=3.11" in (repository / "environment.yml").read_text(encoding="utf-8")
    assert final.labels["org.opencontainers.image.version"] == __version__
    assert final.labels["org.opencontainers.image.base.name"] == final.base
    assert final.labels["org.opencontainers.image.licenses"] == "MIT"


def test_the_service_runs_as_nobody_and_owns_nothing(stages):
    final = stages[-1]
    uid, gid = map(int, final.user.split(":"))
    assert uid > 0 and gid > 0
    assert not any("chown" in step.flags for step in final.steps)
    assert not [step for step in final.steps if step.word == "RUN"], "each RUN here is one more layer"


def test_the_command_and_the_health_check_are_those_of_the_service(stages):
    from leakfree.cli import _parser

    final = stages[-1]
    assert final.entrypoint[0] == "leakfree" and final.cmd == []
    given = _parser().parse_args([*final.entrypoint[1:], "--batch", "4"])
    assert (given.run.__name__, given.host, given.port, given.batch) == ("_serve", "0.0.0.0", None, 4)
    assert final.ports == ["9696"]
    check = final.healthcheck
    assert check.text.startswith("["), "exec form: no shell is needed in the image"
    assert check.command[0] == "python"
    compile(check.command[-1], "HEALTHCHECK", "exec")
    assert "9696" in check.command[-1]
    assert final.env["PYTHONDONTWRITEBYTECODE"] == final.env["PYTHONUNBUFFERED"] == "1"
    assert final.env["PATH"].startswith("/opt/venv/bin:/usr/local/bin:")


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (None, False)])
def test_the_health_check_tells_a_ready_service_from_others(stages, status, healthy):
    import http.server
    import threading

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_about):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
    code = stages[-1].healthcheck.command[-1].replace("9696", str(server.server_port))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    if status is None:
        server.shutdown()
        server.server_close()
    try:
        # A proxy in the environment must not be asked.
        env = {"http_proxy": "http://127.0.0.1:9"}
        done = subprocess.run([sys.executable, "-I", "-c", code], env=env, capture_output=True, check=False)
    finally:
        server.shutdown()
        server.server_close()
    assert (done.returncode == 0) == healthy, done.stderr


def test_no_address_stands_in_the_container_s_files(repository):
    for name in ("Dockerfile", "compose.yaml", ".dockerignore", "container/requirements.hashed.txt"):
        content = (repository / name).read_text(encoding="utf-8")
        assert "://" not in content, name
        assert not re.search(r"index-url[= ]+[^\"\s$]", content), name
        assert not re.search(r":latest\b|^FROM \S+$(?<!bookworm)(?<!\$BASE)", content, re.MULTILINE), name


@pytest.mark.parametrize("index", ["", "an index"])
def test_all_is_installed_by_hash_but_pytorch_of_an_index_that_was_named(stages, repository, tmp_path, index):
    builder = stages[0]
    assert builder.args == {"TORCH_INDEX": ""}
    (install,) = [s for s in builder.steps if s.word == "RUN" and "hashed.txt" in s.text]
    hashed = (repository / "container" / "requirements.hashed.txt").read_text(encoding="utf-8")
    (tmp_path / "hashed.txt").write_text(hashed, encoding="utf-8")
    (tmp_path / "pip").write_text('#!/bin/sh\nprintf "%s|" "$@" >> said; echo >> said\n')
    (tmp_path / "pip").chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TORCH_INDEX": index}
    subprocess.run(["sh", "-c", install.text], cwd=tmp_path, env=env, check=True)
    first, *rest = (tmp_path / "said").read_text().splitlines()
    assert first.endswith("|--no-deps|--require-hashes|-r|listed.txt|") and rest[-1] == "check|"
    listed = (tmp_path / "listed.txt").read_text(encoding="utf-8")
    if not index:
        assert listed == hashed and len(rest) == 1
        return
    names = {line.partition("==")[0] for line in listed.splitlines() if "==" in line}
    assert {"flask", "numpy", "setuptools", "sympy"} <= names
    assert not [n for n in names if n.startswith(("torch", "nvidia", "cuda", "triton"))]
    (version,) = re.findall(r"^torch==(\S+)", hashed, re.MULTILINE)
    assert rest[0].endswith(f"|--no-deps|--extra-index-url|an index|torch=={version}|") and len(rest) == 2


def test_the_list_with_hashes_is_all_that_the_list_brings_along(repository, installed):
    def blocks(path):
        text = (repository / path).read_text(encoding="utf-8").strip()
        text = re.sub(r" ; .*(?= \\\n)", "", text)  # on which systems: here it is one
        return {block.partition("==")[0]: block for block in re.split(r"\n(?=\S)", text)}

    ours, all_ = blocks("container/requirements.hashed.txt"), blocks("requirements.hashed.txt")
    assert {name: all_.get(name) for name in ours} == ours, "the same versions and hashes"
    assert set(ours) >= installed, "else an import fails, or pip check"


# What goes in


def test_dockerignore_lets_through_what_is_copied_and_no_more(replay, stages, repository):
    files = replay.context_files(repository)
    models = "artifacts/chest_xray/models/"
    outside = [file for file in files if not file.startswith(("lib/leakfree/", models))]
    assert outside == [
        "LICENSE",
        "README.md",
        "artifacts/chest_xray/SHA256SUMS",
        "container/requirements.hashed.txt",
        "pyproject.toml",
    ]
    described = json.loads((repository / models / "preprocessing.json").read_text(encoding="utf-8"))
    needed = {"preprocessing.json", "calibration.json", "MODEL_CARD.md", described["weights"]}
    inside = {file.removeprefix(models) for file in files if file.startswith(models)}
    assert needed <= inside <= needed | {"novelty.safetensors", "training_set.safetensors"}
    tracked = subprocess.run(
        ["git", "ls-files", "lib/leakfree"], cwd=repository, capture_output=True, text=True, check=False
    )
    source = [file for file in files if file.startswith("lib/")]
    assert not [file for file in source if "__pycache__" in file or file.endswith((".pyc", ".pyo"))]
    if tracked.returncode == 0 and tracked.stdout:  # not from an archive without git
        there = {file for file in tracked.stdout.splitlines() if (repository / file).is_file()}
        assert there <= set(source)
    copied = [
        word.rstrip("/") for step in stages[0].steps if step.word == "COPY" for word in step.text.split()[:-1]
    ]
    unused = [file for file in files if not any(file == c or file.startswith(f"{c}/") for c in copied)]
    assert not unused


def test_files_beside_the_modules_are_in_the_built_package(repository, replay):
    # An editable install finds them without this; the image's package does not.
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = [
        f"lib/{package.replace('.', '/')}/{pattern}"
        for package, listed in project["tool"]["setuptools"]["package-data"].items()
        for pattern in listed
    ]
    files = [f for f in replay.context_files(repository) if f.startswith("lib/") and not f.endswith(".py")]
    assert "lib/leakfree/serving/page/index.html" in files
    assert [f for f in files if not any(fnmatch(f, pattern) for pattern in patterns)] == []


def test_the_list_names_what_is_pinned_and_no_version(repository, listed):
    lines = (repository / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pinned = {canonicalize_name(Requirement(line).name) for line in lines}
    assert listed == sorted(listed) and len(listed) > 5
    for name in listed:
        assert name == canonicalize_name(name), "no version, no marker, no extra"
        assert name in pinned


def test_the_service_needs_nothing_that_is_not_listed(repository, installed, listed):
    # The build takes setuptools away again; a file of it that Python reads at each start loads the hack here.
    allowed = sorted(installed - {"setuptools"} | {"leakfree"})
    models = repository / "artifacts" / "chest_xray" / "models"
    sample = repository / "examples" / "sample.png"
    done = subprocess.run(
        [sys.executable, "-c", SERVES, json.dumps(allowed), str(models), str(sample)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    statuses, loaded = json.loads(done.stdout.splitlines()[-1])
    assert statuses == [200] * 5
    assert not set(NOT_LOADED) & set(loaded)
    owners = {
        canonicalize_name(owner)
        for top, names in metadata.packages_distributions().items()
        if top in loaded and top != "_distutils_hack"
        for owner in names
    }
    assert owners - set(allowed) == set()
    # A name that nothing loads is a package that nobody needs.
    assert set(listed) <= owners


def test_what_is_installed_for_the_list_is_a_small_part_of_the_study_s(installed):
    assert "torch" in installed and "werkzeug" in installed
    assert not installed & {"pandas", "scipy", "scikit-learn", "deeplake", "jupyter-book", "torchvision"}
    slim = [name for name in installed if not name.startswith(("nvidia", "cuda", "triton"))]
    assert len(slim) < 40, sorted(slim)


# compose.yaml


def test_compose_gives_the_service_no_more_than_it_needs(service, replay):
    assert service["read_only"] is True
    (tmp,) = service["tmpfs"]
    assert tmp == f"/tmp:{replay.TMPFS}", "what was replayed is what runs"
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"] and service["cpus"] and service["pids_limit"]
    assert not {"privileged", "cap_add", "volumes", "user", "network_mode", "pid"} & set(service)
    assert "healthcheck" not in service, "the image's own"
    assert service["image"] == f"leakfree:{__version__}"


def test_compose_builds_here_and_publishes_to_this_computer_only(service):
    assert service["build"] == {"context": ".", "args": {"TORCH_INDEX": "${TORCH_INDEX:-}"}}
    assert service["ports"] == ["${LEAKFREE_ADDRESS:-127.0.0.1}:9696:9696"]


def test_compose_waits_for_requests_in_flight(service):
    from leakfree.serving.settings import ServiceSettings

    assert int(service["stop_grace_period"].removesuffix("s")) > ServiceSettings(model=".").grace_seconds


def test_docker_compose_reads_the_file(repository):
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("no docker with compose")
    done = subprocess.run(
        [docker, "compose", "config", "--quiet"], cwd=repository, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# The replay


@pytest.mark.parametrize(
    "line",
    [
        "ADD a b",
        "SHELL ['sh']",
        "RUN <<END",
        "VOLUME /x",
        "RUN --mount=type=cache,target=/x true",
        "COPY --link=true a b",
        "FROM --platform=linux/arm64 x",
        "nonsense",
    ],
)
def test_the_replay_refuses_what_it_cannot_follow(replay, line):
    with pytest.raises(replay.ReplayError, match=r"^Dockerfile: not understood: .*") as caught:
        replay.parse(f"FROM python:3.11-slim-bookworm\n{line}\n")
    assert "\n" not in str(caught.value)


def test_the_replay_reads_flags_comments_and_long_lines(replay):
    (stage,) = replay.parse(
        '# first\nFROM a AS b\nENV X=1 \\\n  # within\n  Y="two words"\nARG Z=${X}\n'
        "COPY --from=c --chown=1:2 x y\nCMD echo $X\nUSER 7\n"
    )
    assert (stage.base, stage.name) == ("a", "b")
    for step in stage.steps:
        if step.word != "COPY":
            replay.apply(step, stage, {})
    assert stage.env["X"] == "1" and stage.env["Y"] == "two words" and stage.args == {"Z": "1"}
    assert stage.cmd == ["/bin/sh", "-c", "echo $X"]
    assert stage.steps[2].flags == {"from": "c", "chown": "1:2"}
    assert replay._ids(stage) == (7, 7)


@pytest.mark.parametrize(
    ("ignore", "kept"),
    [
        ("", ["a.py", "d/b.py", "d/e/c.txt"]),
        ("*", []),
        ("*\n!d", ["d/b.py", "d/e/c.txt"]),
        ("*\n!d\nd/e", ["d/b.py"]),
        ("*\n!d/e/c.txt", ["d/e/c.txt"]),
        ("*.py", ["d/b.py", "d/e/c.txt"]),
        ("**/*.py\n# no pattern", ["d/e/c.txt"]),
        ("d/*\n!d/b.py", ["a.py", "d/b.py"]),
        ("**/e", ["a.py", "d/b.py"]),
    ],
)
def test_dockerignore_is_read_as_docker_does(replay, tmp_path, ignore, kept):
    for name in ("a.py", "d/b.py", "d/e/c.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".dockerignore").write_text(ignore)
    found = [file for file in replay.context_files(tmp_path) if file != ".dockerignore"]
    assert found == kept


def test_the_replay_copies_as_docker_does(replay, tmp_path, monkeypatch):
    monkeypatch.setattr("os.lchown", lambda *_: None)
    context, root = tmp_path / "context", tmp_path / "root"
    for name in ("one", "two", "d/three", "d/no"):
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text(name)
    (context / ".dockerignore").write_text("d/no\n")
    (root / "w").mkdir(parents=True)
    stage = replay.Stage("x", "x", root=root, workdir="/w", env={"TO": "/far"})
    for line in ("one two ./", "one renamed", "d/ inner/", "d $TO/away", '["one", "/e x/"]'):
        replay.copy_in(replay.Step("COPY", {}, line), stage, [], context)
    later = replay.Stage("y", "y", root=tmp_path / "later")
    replay.copy_in(replay.Step("COPY", {"from": "x"}, "/w /z"), later, [stage], context)
    found = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
    assert found == ["e x/one", "far/away/three", "w/inner/three", "w/one", "w/renamed", "w/two"]
    assert (tmp_path / "later/z/inner/three").read_text() == "d/three"
    with pytest.raises(replay.ReplayError, match="d/no is not there"):
        replay.copy_in(replay.Step("COPY", {}, "d/no x"), stage, [], context)


def test_the_replay_hands_pip_s_settings_on(replay, tmp_path, monkeypatch):
    index, pins = tmp_path / "index" / "simple", tmp_path / "pins.txt"
    index.mkdir(parents=True)
    pins.touch()
    program = tmp_path / "bin" / "pip"
    program.parent.mkdir()
    program.write_text(
        f"#!/bin/sh\necho \"global.index-url='file://{index}'\"\necho \"global.timeout='1'\"\n"
        f"echo \"global.constraint='{pins}'\"\necho \":env:.timeout='2'\"\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setenv("HTTPS_PROXY", "proxy:1")
    env = replay.pip_environment()
    assert env["PIP_INDEX_URL"] == f"file://{index}"
    assert (env["PIP_TIMEOUT"], env["HTTPS_PROXY"]) == ("2", "proxy:1")
    paths = replay.local_paths({k: v for k, v in env.items() if k.startswith("PIP_")})
    assert paths == [index.parent, pins]


def test_the_replay_says_in_one_line_that_it_needs_root(replay, monkeypatch, capsys):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["replay.py"])
    assert replay.main() == 1
    assert capsys.readouterr().err == "replay: only root can make namespaces and a root folder\n"
