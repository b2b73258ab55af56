FROM python:3.11-slim AS build
# The compiler stays in this stage.
RUN command -v gcc > /dev/null || { apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev; }
COPY . /src
RUN python -m venv /opt/cacheserver && /opt/cacheserver/bin/pip install --no-cache-dir /src \
    && /opt/cacheserver/bin/pip uninstall -y pip setuptools \
    && /opt/cacheserver/bin/python -m compileall -q /opt/cacheserver

FROM python:3.11-slim
RUN groupadd --system --gid 11211 memcache && useradd --system --uid 11211 --gid memcache --no-create-home memcache
COPY --from=build /opt/cacheserver /opt/cacheserver
# The base image has no compiled modules of the standard library; without these each start compiles them anew.
RUN /opt/cacheserver/bin/python -c 'import cacheserver.cli, cacheserver.ping, cacheserver.server'
# Arguments that begin with "-" are the server's; anything else is a command of its own.
RUN printf '%s\n' '#!/bin/sh' 'case "$1" in -*) set -- cacheserver "$@";; esac' 'exec "$@"' \
    > /usr/local/bin/docker-entrypoint.sh && chmod 755 /usr/local/bin/docker-entrypoint.sh
# CACHESERVER_LISTEN is the default that -l overrides. Two malloc arenas: memory belongs to the cache.
ENV PATH=/opt/cacheserver/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    CACHESERVER_LISTEN=* \
    MALLOC_ARENA_MAX=2
USER memcache
EXPOSE 11211
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["cacheserver", "ping"]
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["cacheserver"]
