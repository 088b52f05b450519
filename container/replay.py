"""Follow the Dockerfile step by step where there is no container engine, and try what comes out.

Usage, as root on Debian or Ubuntu: ``python container/replay.py [--root DIR] [--context DIR]``

A minimal Debian (``debootstrap``) stands in for the base image. Each step runs in namespaces of its own, so
no mount is ever seen from outside, or left behind. The image's command then runs as the image's user, on a
root mounted read-only with a tmpfs on /tmp and no capability, and has to become healthy, to classify
``examples/sample.png``, to write nothing, and to stop when told.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
BASE = re.compile(r"python:3\.11-[a-z-]*bookworm")
PACKAGES = "python3,python3-venv,python-is-python3,ca-certificates"
#: Instructions that are understood, with their flags.
WORDS = {word: set() for word in ("FROM", "ARG", "ENV", "LABEL", "WORKDIR", "RUN", "USER", "EXPOSE")}
WORDS |= {"COPY": {"from", "chown"}, "ENTRYPOINT": set(), "CMD": set()}
WORDS |= {"HEALTHCHECK": {"interval", "timeout", "start-period", "start-interval", "retries"}}
#: What the base image sets.
BASE_ENV = {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"}
#: As compose.yaml has it.
TMPFS = "size=64m,mode=1777,noexec,nosuid,nodev"
#: What a CPU build of PyTorch does not have: folders of packages, and libraries in PyTorch's own.
CUDA = re.compile(r"site-packages/(nvidia|triton|cuda|torch/lib/[^/]*(cuda|nvshmem|nvrtc|cupti))")
MIB = 2**20


class ReplayError(Exception):
    """The replay cannot go on; the message is one line."""


@dataclass
class Step:
    """One instruction of a Dockerfile.

    Attributes
    ----------
    word : str
    flags : dict of str to str
        Such as ``{"from": "builder"}``.
    text : str
        The rest of the instruction, lines joined.
    """

    word: str
    flags: dict[str, str]
    text: str

    @property
    def command(self) -> list[str]:
        """The rest as a command: exec form as it stands, shell form under a shell."""
        return json.loads(self.text) if self.text.startswith("[") else ["/bin/sh", "-c", self.text]


@dataclass
class Stage:
    """What lies between two FROM, and what its instructions have set when it has been run."""

    base: str
    name: str
    steps: list[Step] = field(default_factory=list)
    root: Path = Path()
    env: dict[str, str] = field(default_factory=lambda: dict(BASE_ENV))
    args: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "0:0"
    healthcheck: Step | None = None
    entrypoint: list[str] = field(default_factory=list)
    cmd: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    ports: list[str] = field(default_factory=list)


def parse(text: str) -> list[Stage]:
    """Read a Dockerfile into its stages; raises `ReplayError` for what is not understood."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    stages: list[Stage] = []
    before: dict[str, str] = {}  # arguments of the base images, with their defaults
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        word, _, rest = line.strip().partition(" ")
        word, rest, flags = word.upper(), rest.strip(), {}
        while found := re.match(r"--([a-z-]+)=(\S+)\s+", rest):
            flags[found[1]], rest = found[2], rest[found.end() :]
        if (
            word not in WORDS
            or set(flags) - WORDS[word]
            or "<<" in rest
            or (word not in ("ARG", "FROM") and not stages)
        ):
            raise ReplayError(f"Dockerfile: not understood: {line.strip()[:80]}")
        if word == "FROM":
            image, *named = expand(rest, before).split()
            stages.append(Stage(image, named[1] if named else str(len(stages))))
        elif not stages:
            name, _, value = rest.partition("=")
            before[name] = value
        else:
            stages[-1].steps.append(Step(word, flags, rest))
    if not stages:
        raise ReplayError("Dockerfile: no FROM")
    return stages


def expand(text: str, values: Mapping[str, str]) -> str:
    """Put values in for ``$X``, ``${X}`` and ``${X:-default}``."""
    pattern = re.compile(r"\$(?:(\w+)|\{(\w+)(?::-([^}]*))?\})")
    return pattern.sub(lambda m: values.get(m[1] or m[2]) or m[3] or "", text)


def context_files(context: Path) -> list[str]:
    """List the files that .dockerignore lets through, as Docker does: the last pattern that fits decides."""
    ignore = context / ".dockerignore"
    lines = ignore.read_text(encoding="utf-8").splitlines() if ignore.is_file() else []
    rules = []
    for line in (line.strip() for line in lines):
        if line and not line.startswith("#"):
            kept, pattern = line.startswith("!"), line.removeprefix("!").strip("/")
            parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^]]*\])", pattern)
            known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
            regex = "".join(known.get(p, p if p.startswith("[") else re.escape(p)) for p in parts)
            rules.append((kept, pattern, re.compile(f"{regex}(?:/.*)?")))

    def kept(path: str) -> bool:
        decisions = [keep for keep, _, regex in rules if regex.fullmatch(path)]
        return decisions[-1] if decisions else True

    def may_hold(folder: str) -> bool:  # else folders as large as .venv would be walked through
        inside = [p for keep, p, _ in rules if keep and (p.startswith(f"{folder}/") or p.startswith("**"))]
        return kept(folder) or bool(inside)

    found = []
    for place, folders, files in os.walk(context):
        here = Path(place).relative_to(context)
        folders[:] = [f for f in sorted(folders) if may_hold((here / f).as_posix())]
        found += [(here / f).as_posix() for f in files if kept((here / f).as_posix())]
    return sorted(found)


def copy_in(step: Step, stage: Stage, stages: Sequence[Stage], context: Path) -> None:
    """Do a COPY: from the context, or from an earlier stage."""
    values = stage.args | stage.env
    words = json.loads(step.text) if step.text.startswith("[") else shlex.split(step.text)
    *sources, target = (expand(word, values) for word in words)
    into = stage.root / os.path.join(stage.workdir, target).lstrip("/")
    as_folder = target.endswith("/") or len(sources) > 1
    if "from" in step.flags:
        base = next((s.root for s in stages if s.name == step.flags["from"]), None)
        if base is None:
            raise ReplayError(f"COPY: no stage {step.flags['from']}")
        names = None
    else:
        base, names = context, context_files(context)
    owner = [int(number) for number in step.flags.get("chown", "0:0").split(":")]
    for source in (source.strip("/") for source in sources):
        if names is None:
            inside = [p.relative_to(base).as_posix() for p in _walk(base / source)]
        else:
            at = "" if source == "." else f"{source}/"
            inside = [name for name in names if name == source or name.startswith(at)]
        if not inside:
            raise ReplayError(f"COPY: {source} is not there, or .dockerignore leaves it out")
        is_folder = (base / source).is_dir()
        for name in inside:
            last = os.path.relpath(name, source) if is_folder else Path(name).name if as_folder else ""
            to = into / last
            for parent in reversed(to.parents):
                if not parent.exists():
                    parent.mkdir(mode=0o755)
            if (base / name).is_dir() and not (base / name).is_symlink():
                to.mkdir(exist_ok=True)
                shutil.copystat(base / name, to)
            else:
                shutil.copy2(base / name, to, follow_symlinks=False)
            os.lchown(to, owner[0], owner[-1])


def _walk(path: Path) -> Iterator[Path]:
    yield path
    if path.is_dir() and not path.is_symlink():
        for entry in sorted(path.iterdir()):
            yield from _walk(entry)


def pip_environment() -> dict[str, str]:
    """Hand this machine's pip settings (index, certificates, constraints) and proxies on, as variables."""
    names = {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"}
    env = {k: v for k, v in os.environ.items() if k in names or k.lower().endswith("_proxy")}
    listed = subprocess.run(["pip", "config", "list"], capture_output=True, text=True, check=True).stdout
    found = dict(re.findall(r"^(\S+)=('.*'|\".*\")$", listed, re.MULTILINE))
    for section in ("global", "install", ":env:"):  # the later is the stronger
        for key, value in found.items():
            if key.startswith(f"{section}."):
                name = key.removeprefix(f"{section}.").upper().replace("-", "_")
                env[f"PIP_{name}"] = ast.literal_eval(value)
    return env


def local_paths(env: Mapping[str, str]) -> list[Path]:
    """Find the files and folders that the settings name; beside a local index ``simple`` lie its files."""
    paths = set()
    for word in " ".join(env.values()).split():
        path = Path(word.removeprefix("file://"))
        if path.is_absolute() and path.exists():
            paths.add(path.parent if path.is_dir() and path.name == "simple" else path)
    return sorted(paths)


def in_root(
    stage: Stage, command: Sequence[str], env: Mapping[str, str], binds: Sequence[Path], *, service: bool
) -> list[str]:
    """Make the command line that runs a command in a stage: for a RUN, or as the service would run.

    The new mount namespace ends with the command, and all mounts in it.
    """
    root = str(stage.root)
    mounts = [["mount", "--bind", root, root], ["mount", "-t", "proc", "proc", f"{root}/proc"]]
    mounts += [["mount", "-t", "tmpfs", "-o", "mode=755", "dev", f"{root}/dev"], ["mkdir", f"{root}/dev/shm"]]
    mounts += [["mount", "-t", "tmpfs", "-o", "size=64m,mode=1777", "shm", f"{root}/dev/shm"]]
    for device in ("null", "zero", "full", "random", "urandom"):
        mounts += [["touch", f"{root}/dev/{device}"]]
        mounts += [["mount", "--bind", f"/dev/{device}", f"{root}/dev/{device}"]]
    for path in binds:
        inside = f"{root}{path}"
        mounts += [["mkdir", "-p", inside if path.is_dir() else os.path.dirname(inside)]]
        mounts += [] if path.is_dir() else [["touch", inside]]
        mounts += [["mount", "--bind", str(path), inside], ["mount", "-o", "remount,bind,ro", inside]]
    as_user, spaces = [], ["--mount", "--pid", "--fork", "--kill-child"]
    if service:
        mounts += [["mount", "-t", "tmpfs", "-o", TMPFS, "tmp", f"{root}/tmp"]]
        mounts += [["mount", "-o", "remount,bind,ro", root], ["ip", "link", "set", "lo", "up"]]
        spaces += ["--net"]
        uid, gid = _ids(stage)
        as_user = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs"]
        as_user += ["--bounding-set=-all", "--inh-caps=-all"]
    variables = [f"{name}={value}" for name, value in env.items()]
    enter = ["chroot", root, "/usr/bin/env", "-i", f"--chdir={stage.workdir}", *variables, *as_user, *command]
    script = "\n".join(["set -e", *map(shlex.join, mounts), f"exec {shlex.join(enter)}"])
    return ["unshare", *spaces, "/bin/sh", "-c", script]


def _ids(stage: Stage) -> tuple[int, int]:
    uid, _, gid = stage.user.partition(":")
    if not (uid + gid).isdigit():
        raise ReplayError(f"USER {stage.user}: not a number")
    return int(uid), int(gid or uid)


def build(stages: Sequence[Stage], context: Path, folder: Path, args: Mapping[str, str]) -> Stage:
    """Run all stages under a folder; return the last one."""
    standin = folder / "base"
    if not standin.is_dir():
        _say("debootstrap, in place of the base image")
        making = folder / "base.part"
        shutil.rmtree(making, ignore_errors=True)
        _run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(making)])
        making.rename(standin)
    settings = pip_environment()
    binds = [*local_paths(settings), Path("/etc/resolv.conf")]
    done: list[Stage] = []
    for stage in stages:
        if not BASE.fullmatch(stage.base):
            raise ReplayError(f"FROM {stage.base}: there is a stand-in for python:3.11-slim-bookworm only")
        stage.root = folder / f"stage-{stage.name}"
        shutil.rmtree(stage.root, ignore_errors=True)
        _run(["cp", "-a", "--reflink=auto", str(standin), str(stage.root)])
        for step in stage.steps:
            flags = [f"--{name}={value}" for name, value in step.flags.items()]
            _say(" ".join([f"{stage.name}: {step.word}", *flags, step.text]))
            if step.word == "COPY":
                copy_in(step, stage, done, context)
            elif step.word == "RUN":
                env = settings | stage.args | stage.env | {"HOME": "/root"}
                _run(in_root(stage, step.command, env, binds, service=False))
            else:
                apply(step, stage, args)
        done.append(stage)
    return done[-1]


def apply(step: Step, stage: Stage, args: Mapping[str, str]) -> None:
    """Take over what an instruction sets."""
    values = stage.args | stage.env
    if step.word == "ARG":
        name, _, default = step.text.partition("=")
        stage.args[name] = args.get(name, expand("".join(shlex.split(default)), values))
    elif step.word in ("ENV", "LABEL"):
        pairs = dict(word.split("=", 1) for word in shlex.split(step.text))
        into = stage.env if step.word == "ENV" else stage.labels
        into.update({name: expand(value, values) for name, value in pairs.items()})
    elif step.word == "WORKDIR":
        stage.workdir = os.path.join(stage.workdir, expand(step.text, values))
        (stage.root / stage.workdir.lstrip("/")).mkdir(parents=True, exist_ok=True)
    elif step.word == "USER":
        stage.user = expand(step.text, values)
    elif step.word == "EXPOSE":
        stage.ports += step.text.split()
    elif step.word == "HEALTHCHECK":
        word, _, rest = step.text.partition(" ")
        stage.healthcheck = Step("CMD", step.flags, rest.strip()) if word == "CMD" else None
    elif step.word == "ENTRYPOINT":
        stage.entrypoint, stage.cmd = step.command, []
    elif step.word == "CMD":
        stage.cmd = step.command


def serve(stage: Stage, context: Path) -> None:
    """Run the image as its service and check what it must do; raises `ReplayError`."""
    before = _contents(stage.root)
    log = stage.root.parent / "service.log"
    command = in_root(stage, [*stage.entrypoint, *stage.cmd], stage.env | {"HOME": "/"}, (), service=True)
    started = time.monotonic()
    with log.open("wb") as stream:
        unshare = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)
    try:
        pid = _until_healthy(stage, unshare)
        _say(f"healthy after {time.monotonic() - started:.1f} s")
        client = [sys.executable, str(context / "examples/client.py"), str(context / "examples/sample.png")]
        said = _output(["nsenter", f"--target={pid}", "--net", *client])
        if not re.match(r"(Normal|Pneumonia)\b.*\d", said):
            raise ReplayError(f"/predict: {said}")
        _say(f"the sample: {said.splitlines()[0]}")
        _inspect(pid, _ids(stage))
        if subprocess.run([*_enter(pid), "touch", "/opt/written"], capture_output=True).returncode == 0:
            raise ReplayError("the root is not read-only, so nothing was proved")
        asked = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        if code := unshare.wait(timeout=60):
            raise ReplayError(f"SIGTERM: exit code {code}")
        _say(f"stopped by SIGTERM after {time.monotonic() - asked:.1f} s, exit code 0")
        if changed := sorted(set(before.items()) ^ set(_contents(stage.root).items())):
            raise ReplayError(f"written outside /tmp: {changed[0][0]}")
        _say("written outside /tmp: nothing")
    except (ReplayError, subprocess.TimeoutExpired):
        print("".join(log.read_text(errors="replace").splitlines(keepends=True)[-20:]), file=sys.stderr)
        raise
    finally:
        unshare.kill()  # and with it all in its namespaces
        unshare.wait()


def _until_healthy(stage: Stage, unshare: subprocess.Popen, seconds: float = 120) -> int:
    if stage.healthcheck is None:
        raise ReplayError("no HEALTHCHECK")
    limit = float(stage.healthcheck.flags.get("timeout", "30s").removesuffix("s"))
    uid, gid = _ids(stage)
    variables = [f"{name}={value}" for name, value in stage.env.items()]
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if unshare.poll() is not None:
            raise ReplayError(f"the service ended with exit code {unshare.returncode}")
        children = _children(unshare.pid)
        # Before chroot, /proc/PID/root is this machine's.
        if children and os.readlink(f"/proc/{children[0]}/root") != "/":
            command = ["/usr/bin/env", "-i", *variables, *stage.healthcheck.command]
            check = [*_enter(children[0]), f"--setuid={uid}", f"--setgid={gid}", "--", *command]
            if subprocess.run(check, capture_output=True, timeout=limit).returncode == 0:
                return children[0]
        time.sleep(0.1)
    raise ReplayError(f"not healthy after {seconds:.0f} s")


def _inspect(pid: int, ids: tuple[int, int]) -> None:
    for process in (pid, *_children(pid)):
        status = _fields(f"/proc/{process}/status")
        resident = int(status["VmRSS"].split()[0])
        share = int(_fields(f"/proc/{process}/smaps_rollup")["Pss"].split()[0])
        uid, gid = int(status["Uid"].split()[1]), int(status["Gid"].split()[1])
        if (uid, gid) != ids or int(status["CapEff"], 16) or status["NoNewPrivs"] != "1":
            raise ReplayError(f"process {process} may do more than the image's user: {uid}:{gid}")
        _say(
            f"{'parent' if process == pid else 'worker'}: {resident / 1024:.0f} MiB resident, its "
            f"own share {share / 1024:.0f}; uid {uid}, gid {gid}, no capabilities"
        )
    used = os.statvfs(f"/proc/{pid}/root/tmp")
    _say(f"/tmp holds {(used.f_blocks - used.f_bfree) * used.f_frsize / 1024:.0f} KiB")


def _fields(path: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w+):\s*(.*)$", Path(path).read_text(), re.MULTILINE))


def measure(stage: Stage) -> None:
    """Print how large the image is beyond its base, and how many packages it has."""
    entries = _contents(stage.root / "opt").items()
    sizes = {path: size for path, (_, size, mode) in entries if stat.S_ISREG(mode)}
    cuda = sum(size for path, size in sizes.items() if CUDA.search(path))
    packages = [p for p in sizes if re.search(r"site-packages/[^/]+\.dist-info/METADATA$", p)]
    ours = [p for p in packages if not CUDA.search(p)]
    model = sum(size for path, size in sizes.items() if path.startswith("models/"))
    total = sum(sizes.values())
    _say(f"/opt: {total / MIB:.0f} MiB, {(total - cuda) / MIB:.0f} without CUDA; model {model / MIB:.1f}")
    _say(f"packages: {len(packages)}, {len(ours)} without CUDA")


def _contents(root: Path) -> dict[str, tuple[int, int, int]]:
    found = {}
    for path in _walk(root):
        facts = path.lstat()
        found[path.relative_to(root).as_posix()] = (facts.st_mtime_ns, facts.st_size, facts.st_mode)
    return found


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _enter(pid: int) -> list[str]:
    return ["nsenter", f"--target={pid}", "--mount", "--pid", "--net", "--root", "--wd=/"]


def _run(command: Sequence[str]) -> None:
    if code := subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode:
        raise ReplayError(f"exit code {code}: {command[0]}")


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip()


def _say(line: str) -> None:
    print(f"== {' '.join(line.split())}", flush=True)


def main() -> int:
    """Replay, print what was measured, and return the exit code."""
    parser = argparse.ArgumentParser(description="Follow the Dockerfile where there is no container engine.")
    parser.add_argument("--root", type=Path, help="folder for the roots, kept (default: a temporary one)")
    parser.add_argument("--context", type=Path, default=HERE, help="build context (default: this repository)")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    missing = [tool for tool in ("debootstrap", "unshare", "nsenter", "pip") if not shutil.which(tool)]
    folder = None
    # So that a stopped replay cleans up too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if os.geteuid() != 0:
            raise ReplayError("only root can make namespaces and a root folder")
        if missing:
            raise ReplayError(f"{missing[0]} is not installed")
        stages = parse((given.context / "Dockerfile").read_text(encoding="utf-8"))
        folder = given.root or Path(tempfile.mkdtemp(prefix="leakfree-replay-"))
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        image = build(stages, given.context.resolve(), folder, dict(a.split("=", 1) for a in given.build_arg))
        measure(image)
        serve(image, given.context.resolve())
    except (ReplayError, OSError, subprocess.SubprocessError) as error:
        print(f"replay: {error}", file=sys.stderr)
        return 1
    finally:
        if folder and not given.root:
            shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
