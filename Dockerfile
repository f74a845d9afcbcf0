# syntax=docker/dockerfile:1
# The gateway and nothing else, as a user without a name, on a root filesystem that may be read-only.
# What it needs from outside: a data directory, the root key's directory, a TMPDIR in memory (docker-compose.yml).
FROM python:3.13-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY requirements.lock ./
RUN python -m venv /opt/maas-gateway
# Every package by its hash, and as a wheel: nothing that is downloaded runs while the image is built.
RUN /opt/maas-gateway/bin/python -m pip install --quiet --only-binary=:all: --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
COPY migrations ./migrations
COPY config ./config
RUN /opt/maas-gateway/bin/python -m pip install --quiet --no-deps --no-build-isolation .

FROM python:3.13-slim-bookworm
# 10001 has no entry in /etc/passwd, no home and no shell; it owns these two directories only.
RUN install -d -m 0700 -o 10001 -g 10001 /var/lib/maas-gateway /var/lib/maas-keys
COPY --from=build /opt/maas-gateway /opt/maas-gateway
COPY config/production.toml /etc/maas-gateway/production.toml
ENV PATH=/opt/maas-gateway/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TMPDIR=/tmp \
    MAAS_CONFIG=/etc/maas-gateway/production.toml \
    MAAS_KEYS__ROOT_FILE=/var/lib/maas-keys/root.json
USER 10001:10001
WORKDIR /var/lib/maas-gateway
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/v2/health/ready', timeout=4)"]
ENTRYPOINT ["maas-gateway"]
CMD ["serve"]
