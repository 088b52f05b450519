# The prediction service: docker build -t leakfree . && docker run --rm -p 127.0.0.1:9696:9696 leakfree
# container/replay.py follows this file step by step where there is no engine.

# A tag and no digest: whoever builds decides when security updates come in. To freeze the base for good, build with
# --build-arg BASE=python:3.11-slim-bookworm@sha256:... and the digest that `docker pull` prints.
ARG BASE=python:3.11-slim-bookworm
FROM $BASE AS builder

# An index with CPU builds of PyTorch, as its installation page names it. The default index gives Linux the CUDA
# build, several gigabytes that a container without a GPU never touches. The pinned version stays the same: pip
# prefers X+cpu to X.
ARG TORCH_INDEX=""

WORKDIR /build
RUN python -m venv /opt/venv
ENV PATH="/opt/venv/bin:$PATH"

# Before the source, so that a change in it does not fetch PyTorch again. All by hash, from a list made by
#   uv pip compile --universal --python-version 3.11 --no-header --no-annotate --generate-hashes \
#     container/requirements.txt -c requirements.txt -o container/requirements.hashed.txt
# But for PyTorch where an index of CPU builds is named: theirs have other hashes, which depend on that index, so
# it is taken by its version, and what only its CUDA build needs is left out.
COPY container/requirements.hashed.txt hashed.txt
RUN if [ -n "$TORCH_INDEX" ]; then \
        awk '/^[^ ]/ {kept = !/^(torch|triton|cuda-.*|nvidia-.*)==/} kept' hashed.txt > listed.txt; \
    else cp hashed.txt listed.txt; fi \
    && pip install --no-cache-dir --no-compile --no-deps --require-hashes -r listed.txt \
    && if [ -n "$TORCH_INDEX" ]; then \
        pip install --no-cache-dir --no-compile --no-deps --extra-index-url "$TORCH_INDEX" \
            "$(grep -o '^torch==[^ ]*' hashed.txt)"; fi \
    && pip check

# Without dependencies: an audit's are not needed to serve. It is built
# with the pinned setuptools, which PyTorch brought along, not with the newest one.
COPY pyproject.toml README.md LICENSE ./
COPY lib/ lib/
RUN pip install --no-cache-dir --no-compile --no-deps --no-build-isolation .

# Nothing of this serves: installers, and PyTorch's headers, its tests and tools; one of these its import asks for.
# Bytecode is made now, as the service may not write; it is never compared with its source, whose dates a copy
# may change. One file of PyTorch's is for a later Python and cannot be compiled.
RUN pip uninstall --yes --quiet pip setuptools \
    && rm -rf /opt/venv/lib/python3.11/site-packages/torch/include \
              /opt/venv/lib/python3.11/site-packages/torch/share \
    && find /opt/venv/lib/python3.11/site-packages/torch/bin -type f ! -name torch_shm_manager -delete \
    && find /opt/venv -name '*.pyi' -delete \
    && python -m compileall -q -j 0 -x py312_ --invalidation-mode unchecked-hash /opt/venv/lib

# The served model alone, see .dockerignore. The build ends here if it cannot be loaded.
COPY artifacts/chest_xray/models/ /opt/run/models/
COPY artifacts/chest_xray/SHA256SUMS /opt/run/SHA256SUMS
RUN chmod -R a+rX /opt/run \
    && python -c "from leakfree.predict.classifier import Classifier; Classifier.load('/opt/run/models')"


FROM $BASE

LABEL org.opencontainers.image.title="leakfree" \
      org.opencontainers.image.description="Pneumonia on chest X-rays, from a leak-free model. Not a medical device." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="0.2.0" \
      org.opencontainers.image.base.name="python:3.11-slim-bookworm"

# All belongs to root: the service can change neither its code nor its model.
COPY --from=builder /opt/venv /opt/venv
COPY --from=builder /opt/run /opt/run

ENV PATH="/opt/venv/bin:$PATH" \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LEAKFREE_MODEL=/opt/run/models

# By number, so that an orchestrator can see that it is not root; no account of that number is needed.
USER 65532:65532
EXPOSE 9696

# Python, as there is no curl in the image. http.client and not urllib.request: that would ask a proxy from the
# environment for this very host.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 9696, timeout=4); c.request('GET', '/health'); raise SystemExit(c.getresponse().status != 200)"]

# Options of `leakfree serve` can be appended to `docker run IMAGE`.
ENTRYPOINT ["leakfree", "serve", "--host", "0.0.0.0"]
