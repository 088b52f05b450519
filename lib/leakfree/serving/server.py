"""Run the application: gunicorn where processes can fork, waitress elsewhere."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import logging.config
import os
import shutil
import socket
import tempfile
from typing import TYPE_CHECKING, Any

from leakfree.serving.settings import ServiceSettings

if TYPE_CHECKING:
    from flask import Flask


def serve(settings: ServiceSettings, *, forks: bool | None = None) -> None:
    """Serve until stopped.

    Parameters
    ----------
    settings : ServiceSettings
    forks : bool, optional
        Take gunicorn, or waitress; by default what this system can do.

    Raises
    ------
    leakfree.predict.description.PublishedError
        If the model cannot be loaded; nothing listens then.
    OSError
        If the address cannot be listened on.
    """
    _refuse_taken(settings.host, settings.port)
    if settings.metrics_port:
        _refuse_taken(*settings.metrics_address)
    _give_memory_back()
    logging.captureWarnings(True)  # Pillow warns of damaged metadata: lines of the log like all others
    forks = hasattr(os, "fork") if forks is None else forks
    counters = failed = None
    try:
        if forks:
            try:
                counters = tempfile.mkdtemp(prefix="leakfree-counters-")
                # Read when the counters are imported: workers count together.
                os.environ["PROMETHEUS_MULTIPROC_DIR"] = counters
            except OSError as error:
                failed = error
        from leakfree.serving import monitoring

        logging.config.dictConfig(monitoring.log_as_json())
        if failed:
            monitoring.without_counters(failed)
        elif monitoring.lost:  # while they were imported, when nothing was logged yet
            monitoring.log_lost()
        app = _application(settings)
        (_gunicorn if forks else _waitress)(app, settings)
    finally:
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
        if counters:
            shutil.rmtree(counters, ignore_errors=True)


def _addresses(settings: ServiceSettings) -> list[str]:
    """Return what to listen on; without that of /metrics where nobody asked for it and it is taken."""
    from leakfree.serving.monitoring import log

    addresses = [(settings.host, settings.port)]
    try:
        _refuse_taken(*settings.metrics_address)
        addresses.append(settings.metrics_address)
    except (OSError, OverflowError) as error:
        log.warning("no /metrics: %s: give --metrics-port", error)
    return [f"{_bracketed(host)}:{port}" for host, port in addresses]


def _give_memory_back() -> None:
    """Ask glibc to return what large images took: by default it keeps a heap for every few threads.

    Other allocators have no such settings, and need none.
    """
    # M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD of malloc.h
    arena_max, mmap_threshold, trim_threshold = -8, -3, -1
    with contextlib.suppress(OSError, AttributeError, TypeError):
        allocator = ctypes.CDLL(None)
        allocator.mallopt(arena_max, 2)
        # Above what a prediction takes: memory that goes back and comes again costs a fifth of the speed.
        allocator.mallopt(mmap_threshold, 32 << 20)
        allocator.mallopt(trim_threshold, 128 << 20)


def _refuse_taken(host: str, port: int) -> None:
    """Raise at once where the servers would try again and again."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as probe:
        if os.name != "nt":  # there it means that a taken address may be taken again
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise OSError(error.errno, error.strerror, f"{host}:{port}") from error


def _application(settings: ServiceSettings) -> Flask:
    import torch

    from leakfree.predict.classifier import Classifier
    from leakfree.serving.app import create_app

    # One thread each: the parent must not have a pool of threads when it forks.
    torch.set_num_threads(1)
    return create_app(Classifier.load(settings.model), settings)


def _start(app: Flask) -> None:
    from leakfree.data import bounded

    bounded.start()
    app.extensions["batcher"].start()


def _gunicorn(app: Flask, settings: ServiceSettings) -> None:
    from gunicorn.app.base import BaseApplication
    from prometheus_client.multiprocess import mark_process_dead

    from leakfree.serving.monitoring import log_as_json
    from leakfree.serving.worker import with_deadline

    options: dict[str, Any] = {
        "bind": _addresses(settings),
        "workers": settings.processes(),
        "threads": settings.threads,
        "worker_class": with_deadline(settings.receive_seconds),
        # Imports and weights are shared by the workers, and a killed one is replaced in a moment.
        "preload_app": True,
        "graceful_timeout": settings.grace_seconds,
        "timeout": 60,
        "keepalive": 15,
        "worker_tmp_dir": "/dev/shm" if os.path.isdir("/dev/shm") else None,
        "logconfig_dict": log_as_json(),
        "accesslog": None,
        "control_socket_disable": True,
        "post_worker_init": lambda worker: _start(app),
        "child_exit": lambda server, worker: mark_process_dead(worker.pid),
    }

    class Application(BaseApplication):
        def load_config(self) -> None:
            for name, value in options.items():
                if value is not None:
                    self.cfg.set(name, value)

        def load(self) -> Flask:
            return app

    Application().run()


def _waitress(app: Flask, settings: ServiceSettings) -> None:
    from waitress import create_server

    _start(app)
    addresses = " ".join(_addresses(settings))
    server = create_server(
        app,
        listen=addresses,
        threads=settings.threads,
        max_request_body_size=settings.body_bytes,
        channel_timeout=int(settings.receive_seconds),
        clear_untrusted_proxy_headers=True,
    )
    logging.getLogger("waitress").info("listening", extra={"addresses": addresses})
    try:
        server.run()
    finally:
        server.close()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
