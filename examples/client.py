"""Ask a running service about one image: ``python examples/client.py FILM [--url URL]``.

Standard library only. The service is ``leakfree serve``, or any other that takes ``{"image": base64}`` at
``POST /predict`` and answers with ``diagnosis`` and ``confidence``: a client of such a service, as the
reference study's, works with ours unchanged. Exit code: 0 answered, 1 no answer from the service, 2 the image
cannot be read.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import sys
from pathlib import Path
from urllib.parse import urlsplit


class ServiceError(Exception):
    """The service did not answer; the message is one line."""


def predict(url: str, film: bytes, seconds: float = 30) -> dict[str, object]:
    """Send an encoded image and return what the service says of it.

    Parameters
    ----------
    url : str
        Of the service, without ``/predict``.
    image : bytes
        A file as it is: PNG, JPEG, ...
    seconds : float, optional
        How long to wait.

    Returns
    -------
    dict
        With ``diagnosis`` and ``confidence`` at least.

    Raises
    ------
    ServiceError
        If the service cannot be reached, refuses, or answers something else.
    """
    body = json.dumps({"image": base64.b64encode(film).decode("ascii")}).encode()
    at = urlsplit(url)
    if at.scheme not in ("http", "https") or not at.hostname:
        raise ServiceError(f"{url}: no address such as http://127.0.0.1:9696")
    kind = http.client.HTTPSConnection if at.scheme == "https" else http.client.HTTPConnection
    try:
        connection = kind(at.hostname, at.port, timeout=seconds)
        with contextlib.closing(connection):
            # A service that refuses a large body answers before it has read all of it, and hangs up.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(
                    "POST", f"{at.path.rstrip('/')}/predict", body, {"Content-Type": "application/json"}
                )
            response = connection.getresponse()
            said = response.read()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ServiceError(f"{url} cannot be reached: {error or type(error).__name__}") from error
    try:
        answer = json.loads(said)
        if response.status == 200:
            return {
                **answer,
                "diagnosis": str(answer["diagnosis"]),
                "confidence": float(answer["confidence"]),
            }
        reason = str(answer["error"])
    except (ValueError, KeyError, TypeError) as error:
        if response.status == 200:
            raise ServiceError(
                f"{url}: no answer of such a service: {type(error).__name__} {error}"
            ) from error
        reason = response.reason
    raise ServiceError(f"{url} refused: {response.status} {reason}")


def main() -> int:
    """Ask, print, and return the exit code."""
    parser = argparse.ArgumentParser(description="Ask a running service about one chest X-ray.")
    parser.add_argument("film", type=Path, metavar="FILM", help="image file")
    parser.add_argument(
        "--url", default="http://127.0.0.1:9696", help="of the service (default: %(default)s)"
    )
    given = parser.parse_args()
    try:
        answer = predict(given.url, given.film.read_bytes())
    except OSError as error:
        return _fail(2, f"{given.film}: {error.strerror or error}")
    except ServiceError as error:
        return _fail(1, str(error))
    print(f"{answer['diagnosis']}, confidence {answer['confidence']:.3f}")
    for warning in answer.get("warnings", ()):
        print(f"warning: {warning}", file=sys.stderr)
    return 0


def _fail(code: int, message: str) -> int:
    print(f"client: {' '.join(message.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
