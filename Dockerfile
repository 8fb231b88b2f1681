# syntax=docker/dockerfile:1
# One image for every part of Ratchet: the Airflow components, MLflow and the demonstration S3 server.
# Everything is installed from the locks, by hash.

FROM python:3.12-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY requirements.txt ./
COPY include/ratchet/stack/ministack.txt ./
# The S3 server pins a botocore of its own, hence an environment of its own.
RUN python -m venv /opt/ratchet \
    && /opt/ratchet/bin/pip install --require-hashes --only-binary :all: -r requirements.txt \
    && python -m venv /opt/ministack \
    && /opt/ministack/bin/pip install --require-hashes -r ministack.txt \
    && printf '#!/opt/ratchet/bin/python\nfrom ratchet.cli import main\nmain()\n' > /opt/ratchet/bin/ratchet \
    && chmod 755 /opt/ratchet/bin/ratchet

FROM python:3.12-slim-bookworm
# XGBoost needs OpenMP at run time; tini ends children properly. No versions: the base pins the release, and its security
# updates are wanted.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 ratchet \
    && useradd --uid 10001 --gid ratchet --create-home --home-dir /home/ratchet --shell /usr/sbin/nologin ratchet \
    && install -d -o ratchet -g ratchet /state /logs
COPY --from=build /opt/ratchet /opt/ratchet
COPY --from=build /opt/ministack /opt/ministack
COPY include /app/include
COPY dags /app/dags
COPY plugins /app/plugins
# `docker build --build-arg RATCHET_COMMIT="$(git rev-parse HEAD)"`: what each night records as the code that it ran.
ARG RATCHET_COMMIT=""
ENV RATCHET_COMMIT=$RATCHET_COMMIT \
    PATH=/opt/ratchet/bin:$PATH \
    PYTHONPATH=/app/include \
    PYTHONUNBUFFERED=1 \
    RATCHET_HOME=/app/include \
    RATCHET_CACHE=/home/ratchet/cache \
    AIRFLOW_HOME=/home/ratchet/airflow \
    GX_ANALYTICS_ENABLED=false \
    MLFLOW_DISABLE_TELEMETRY=true \
    DO_NOT_TRACK=true \
    OMP_WAIT_POLICY=PASSIVE \
    MIMALLOC_ARENA_EAGER_COMMIT=0
USER 10001:10001
WORKDIR /home/ratchet
ENTRYPOINT ["tini", "--"]
CMD ["ratchet", "--help"]
