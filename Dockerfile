# Two stages: the first builds the wheel and installs it with the locked packages, the second only carries the result.
# `deploy/docker-steps.sh` does the same steps in folders, for machines without a container engine.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY requirements/ requirements/
RUN python -m venv /build \
 && /build/bin/python -m pip install --no-cache-dir --require-hashes -r requirements/build.lock \
 && python -m venv /opt/entrepot \
 && /opt/entrepot/bin/python -m pip install --no-cache-dir --require-hashes -r requirements/local.lock
COPY pyproject.toml README.md LICENSE ./
COPY hub/ hub/
COPY servers/ servers/
COPY agents/ agents/
COPY registry/ registry/
RUN /build/bin/python -m pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/entrepot/bin/python -m pip install --no-cache-dir --no-deps /wheels/*.whl

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="Entrepot" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 4180 --create-home entrepot \
 && install -d -o entrepot -g entrepot -m 0700 /data
COPY --from=build /opt/entrepot /opt/entrepot
ENV PATH=/opt/entrepot/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ENTREPOT_HOME=/data \
    ENTREPOT_HOST=0.0.0.0 \
    ENTREPOT_PUBLIC_URL=http://localhost:4180
USER 4180
WORKDIR /data
VOLUME /data
EXPOSE 4180
# The first start fetches the local model's weights (93 MB) after the hub's own folders are made.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:4180/readyz', timeout=4)"]
ENTRYPOINT ["entrepot"]
CMD ["up", "--no-first-light"]
