# An image of the static binary and nothing else.
#
# Not run in CI: no container engine is available there, so this file is read in review, not built. From the
# repository's root:
#
#   docker build -t ghcr.io/certmon/certmon:0.1.0 .

# The full version of rust-toolchain.toml, so that rustup has nothing to download.
FROM rust:1.95.0-bookworm AS build
# Stands above rust-toolchain.toml, which would ask for clippy and rustfmt too.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY . .
# With --target, flags reach the product alone: a proc macro is a library that the compiler loads, and can't be
# static. The gnu target is the one that the tests and figures of this project are made with.
RUN target=$(rustc -vV | sed -n 's/^host: //p') \
 && RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked -p certmon --target "$target" \
 && cp "target/$target/release/certmon" /certmon \
 # Nothing that the image hasn't: a dynamic binary names its loader, and would not start.
 && ! readelf --program-headers /certmon | grep -q INTERP

FROM debian:bookworm-slim AS roots
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates

FROM scratch
LABEL org.opencontainers.image.title="certmon" \
      org.opencontainers.image.description="Watches certificates and tells people once, on time" \
      org.opencontainers.image.source="https://github.com/certmon/certmon" \
      org.opencontainers.image.licenses="Apache-2.0"
# The system's roots: what a served chain and a sink are verified with where nobody names others.
COPY --from=roots /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/LICENSE /LICENSE
COPY --from=build /certmon /certmon
# A number: there is no /etc/passwd to find a name in, and runAsNonRoot can only judge numbers.
USER 65534:65534
EXPOSE 8080
# For people who run the image without the chart; the chart's flags say the same.
ENV CERTMON_LOG_FORMAT=json
ENTRYPOINT ["/certmon"]
CMD ["run"]
