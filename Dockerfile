# syntax=docker/dockerfile:1
ARG RUST_VERSION=1.95

FROM rust:${RUST_VERSION}-slim-bookworm AS build
WORKDIR /build

# The dependencies, in a layer of their own: it is built anew only when the manifests, the list of benches or what reads
# documents change.
COPY Cargo.toml Cargo.lock ./
COPY deploy/build deploy/sbom ./deploy/
COPY benches ./benches
COPY reading ./reading
RUN mkdir src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && deploy/build \
    && rm -r src

# The daemon. COPY keeps the files' times, which are older than the stand-ins above: without `touch` cargo would keep those.
COPY config ./config
COPY src ./src
COPY build.rs ./
ARG REVISION=unknown
ARG SOURCE_DATE_EPOCH
RUN find src -name '*.rs' -exec touch {} + \
    && SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH}" DESCOPE_GITOPS_REVISION="${REVISION}" deploy/build \
    && mkdir -p /out/bin /out/sbom /out/state \
    && cp target/release/descope-gitops /out/bin/ \
    && cp target/release/descope-gitops.cdx.json /out/sbom/

# glibc, libgcc and the system's root certificates; no shell, no package manager, user 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
ARG REVISION=unknown
LABEL org.opencontainers.image.title="descope-gitops" \
      org.opencontainers.image.description="Keeps Descope projects equal to the YAML in a config repo" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out/bin/descope-gitops /usr/local/bin/descope-gitops
# What that is made of, where scanners of images look for it.
COPY --from=build /out/sbom/descope-gitops.cdx.json /usr/share/sbom/descope-gitops.cdx.json
# The only place the daemon writes to; everything else may be mounted read-only. A new volume takes this owner over.
COPY --from=build --chown=65532:65532 /out/state /var/lib/descope-gitops
WORKDIR /var/lib/descope-gitops
VOLUME /var/lib/descope-gitops
USER 65532:65532
# Threads that have memory pools of their own keep what they freed: with one for all, memory does not creep up with each edit.
ENV MALLOC_ARENA_MAX=1
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 \
    CMD ["/usr/local/bin/descope-gitops", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/descope-gitops"]
CMD ["run"]
