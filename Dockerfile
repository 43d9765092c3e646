# Postern in a container.
#
#   docker build -t postern .
#   docker run -v "$PWD/etc:/etc/postern:ro" -v postern-state:/var/lib/postern \
#       -p 5432:5432 -p 6432:6432 --stop-timeout 60 postern
#
# The configuration is /etc/postern/postern.toml. In it, listen on 0.0.0.0, and
# let [metrics] do so where metrics are scraped from outside; secrets must be
# readable by the user 9127 and by nobody else. Give the container more time to
# stop than drain_timeout.

ARG RUST=1.95.0
ARG DEBIAN=bookworm

FROM rust:${RUST}-slim-${DEBIAN} AS build
WORKDIR /src
COPY . .
# Installs what it needs, servers to be trained on among it; none of that goes
# into the image below. The caches are BuildKit's: a second build compiles what
# has changed.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    ./scripts/release \
    && cp target/trained/postern /usr/local/bin/postern

FROM debian:${DEBIAN}-slim
ARG USER_ID=9127
RUN groupadd --gid "${USER_ID}" postern \
    && useradd --uid "${USER_ID}" --gid postern --no-create-home \
        --home-dir /var/lib/postern --shell /usr/sbin/nologin postern \
    && install -d -o root -g postern -m 0750 /etc/postern \
    && install -d -o postern -g postern -m 0700 /var/lib/postern /run/postern
COPY --from=build /usr/local/bin/postern /usr/local/bin/postern
USER ${USER_ID}:${USER_ID}
VOLUME ["/etc/postern", "/var/lib/postern"]
# Session endpoint, transaction endpoint, metrics.
EXPOSE 5432 6432 9127
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["postern", "health"]
ENTRYPOINT ["postern"]
CMD ["serve"]
