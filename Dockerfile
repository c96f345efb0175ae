# Images from one build:
#   docker build -t prepare-proxy .                              the static binary and its licences, nothing else
#   docker build -t prepare-proxy:iptables --target iptables .   with the iptables tools, for the iptables backends
#   docker build -t prepare-proxy-demo --target demo .           the proxy and the app of deploy/kubernetes/demo-pod.yaml
#   docker build -t linkerd-proxy --target linkerd --build-arg LINKERD_PROXY=IMAGE .   Linkerd's proxy with this binary as its init
#   docker build -t proxy-init --target linkerd-init .           in the place of the init image of Linkerd before edge-25.11.3
# --platform linux/arm64 (or the build argument TARGETARCH=arm64) cross-compiles for that machine.
#
# The release of Rust is rust-toolchain.toml's. A release build names both images by digest:
#   --build-arg RUST_IMAGE=rust@sha256:… --build-arg DEBIAN_IMAGE=debian@sha256:…
ARG RUST_IMAGE=rust:1.95.0-slim-bookworm
ARG DEBIAN_IMAGE=debian:bookworm-slim
# The proxy's image that the target linkerd begins with; docs/linkerd.md.
ARG LINKERD_PROXY=scratch

FROM --platform=$BUILDPLATFORM ${RUST_IMAGE} AS toolchain
# Without a default: one would win over what the builder sets for --platform.
ARG TARGETARCH
WORKDIR /src
# crt-static needs an explicit target: without one it would reach the proc macros too.
RUN set -e; \
    host=$(rustc -vV | sed -n 's/^host: //p'); \
    case "${TARGETARCH:-${host%%-*}}" in \
      amd64 | x86_64) cpu=x86_64 ;; \
      arm64 | aarch64) cpu=aarch64 ;; \
      *) echo "TARGETARCH=$TARGETARCH: amd64 and arm64 are known" >&2; exit 2 ;; \
    esac; \
    target=$cpu-unknown-linux-gnu; \
    if [ "$target" != "$host" ]; then \
      apt-get update; \
      apt-get install -y --no-install-recommends "gcc-$(echo $cpu | tr _ -)-linux-gnu" "libc6-dev-$TARGETARCH-cross"; \
      rustup target add "$target"; \
      printf '[target.%s]\nlinker = "%s-linux-gnu-gcc"\n' "$target" "$cpu" >>"$CARGO_HOME/config.toml"; \
    fi; \
    printf '[build]\ntarget = "%s"\nrustflags = ["-C", "target-feature=+crt-static"]\n' "$target" >>"$CARGO_HOME/config.toml"
COPY Cargo.toml Cargo.lock build.rs ./
RUN mkdir src && touch src/lib.rs && echo 'fn main() {}' >src/main.rs

# What the program depends on, in a layer that a change of its source leaves alone.
FROM toolchain AS dependencies
RUN cargo build --release --locked && cargo clean --release --package prepare-proxy

FROM dependencies AS build
COPY src src
RUN cargo build --release --locked
# For runtimes that start the container as a user other than root without ambient capabilities:
# --build-arg FILE_CAPABILITIES=cap_net_admin=ep
ARG FILE_CAPABILITIES=
COPY LICENSE deploy/third-party.txt /image/usr/share/doc/prepare-proxy/
# The links are the names by which the replaced images were called.
RUN set -e; \
    mkdir -p /image/usr/local/bin; \
    cp target/*/release/prepare-proxy /image/usr/local/bin/; \
    if [ -n "$FILE_CAPABILITIES" ]; then \
      apt-get update; \
      apt-get install -y --no-install-recommends libcap2-bin; \
      setcap "$FILE_CAPABILITIES" /image/usr/local/bin/prepare-proxy; \
    fi; \
    for name in prepare_proxy.sh istio-iptables istio-iptables.sh proxy-init linkerd2-proxy-init; do \
      ln -s prepare-proxy "/image/usr/local/bin/$name"; \
    done; \
    ln -s usr/local/bin/prepare-proxy /image/prepare_proxy.sh

FROM toolchain AS demo-build
COPY lab lab
RUN CARGO_PROFILE_DEV_STRIP=true cargo build --locked --features lab --bin lab \
    && mkdir -p /image/usr/local/bin \
    && cp target/*/debug/lab /image/usr/local/bin/

FROM scratch AS demo
COPY --from=demo-build /image /
ENV PATH=/usr/local/bin
ENTRYPOINT ["/usr/local/bin/lab"]

# Linkerd starts its init container as uid 65534, which has of NET_ADMIN what the file gives it.
FROM build AS linkerd-build
RUN apt-get update \
    && apt-get install -y --no-install-recommends libcap2-bin \
    && mkdir -p /linkerd/usr/lib/linkerd /linkerd/usr/local/bin /linkerd/usr/share/doc \
    && cp -r /image/usr/share/doc/prepare-proxy /linkerd/usr/share/doc/ \
    && cp /image/usr/local/bin/prepare-proxy /linkerd/usr/lib/linkerd/linkerd2-proxy-init \
    && setcap cap_net_admin=ep /linkerd/usr/lib/linkerd/linkerd2-proxy-init \
    && ln -s /usr/lib/linkerd/linkerd2-proxy-init /linkerd/usr/local/bin/proxy-init

FROM ${LINKERD_PROXY} AS linkerd
COPY --from=linkerd-build /linkerd /

FROM scratch AS linkerd-init
COPY --from=linkerd-build /linkerd /
USER 65534
ENTRYPOINT ["/usr/local/bin/proxy-init"]

FROM ${DEBIAN_IMAGE} AS iptables
ARG DEBIAN_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="prepare-proxy" \
      org.opencontainers.image.description="Sends the TCP of a pod through its sidecar proxy, with the iptables tools" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/prepare-proxy/prepare-proxy" \
      org.opencontainers.image.url="https://github.com/prepare-proxy/prepare-proxy" \
      org.opencontainers.image.base.name="$DEBIAN_IMAGE" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"
RUN apt-get update \
    && apt-get install -y --no-install-recommends iptables \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /image /
ENTRYPOINT ["/usr/local/bin/prepare-proxy"]

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="prepare-proxy" \
      org.opencontainers.image.description="Sends the TCP of a pod through its sidecar proxy: one static binary" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/prepare-proxy/prepare-proxy" \
      org.opencontainers.image.url="https://github.com/prepare-proxy/prepare-proxy" \
      org.opencontainers.image.base.name="scratch" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"
COPY --from=build /image /
ENV PATH=/usr/local/bin
ENTRYPOINT ["/usr/local/bin/prepare-proxy"]
