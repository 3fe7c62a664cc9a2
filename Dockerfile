FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked && cp target/release/lanyard /lanyard && mkdir /data

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin lanyard
COPY --from=build /lanyard /usr/local/bin/lanyard
COPY --from=build --chown=10001:10001 /data /data
USER 10001:10001
WORKDIR /
VOLUME /data
EXPOSE 5000
# Asks where the configuration says; with `serve --config FILE` give it the same --config.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["lanyard", "healthcheck"]
ENTRYPOINT ["lanyard"]
CMD ["serve"]
