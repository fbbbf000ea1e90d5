# dla-serve as a container image, for Docker, BuildKit, Podman and buildah.
#
#   docker build -t dla-serve .                        CPU; the same as --target cpu
#   docker build -t dla-serve:cuda --target cuda .     NVIDIA GPUs
#   docker run --read-only -p 8001:8001 -v /srv/models:/models:ro dla-serve --model-repository /models
#
# For a build that can be repeated, name the base by digest: --build-arg DEBIAN=debian:bookworm-slim@sha256:...
# A proxy or an index of your own is told to pip by --secret id=pip.conf,src=FILE, and its certificate authority by
# --secret id=ca.crt,src=FILE with "cert = /run/secrets/ca.crt" in pip.conf. Neither becomes part of the image.
ARG DEBIAN=docker.io/library/debian:bookworm-slim

# ---- build: compiler, headers and LibTorch; ends in a Debian package
FROM ${DEBIAN} AS build
WORKDIR /src
COPY script script
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.crt \
    script/bootstrap
COPY . .
RUN cmake --preset release -DDLA_BUILD_TESTS=OFF -DDLA_BUILD_BENCHMARKS=OFF \
    && cmake --build --preset release -- --quiet \
    && cpack --config build/release/CPackConfig.cmake

# ---- runtime: the package and what it depends on
FROM ${DEBIAN} AS runtime
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="dla-serve" \
      org.opencontainers.image.description="gRPC image classification with Deep Layer Aggregation networks" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Slim images leave out what lies in /usr/share/doc, where the licences of what is bundled are.
RUN --mount=type=bind,from=build,source=/src/build/release,target=/mnt \
    apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
       -o "DPkg::Options::=--path-include=/usr/share/doc/dla-serve/*" /mnt/dla-serve_*.deb \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/ldconfig /var/log/* \
    && install -d -o 65532 -g 65532 /var/cache/dla-serve
# What calibration measured is kept here, if a volume is mounted that 65532 may write.
ENV XDG_CACHE_HOME=/var/cache
USER 65532:65532
# HTTP, gRPC, metrics
EXPOSE 8000 8001 8002
# Another port or TLS: set DLA_SERVER, or bring a health check of your own with `dla-client health --tls-ca ...`.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 CMD ["dla-client", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["dla-server"]

# ---- cuda: the same, and what libdla_cuda.so needs to compute on NVIDIA GPUs: LibTorch's CUDA libraries and NVIDIA's, 2.6 GB.
# The driver, 580 or newer, is the machine's: docker run --gpus all ...
FROM build AS cuda-libraries
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.crt \
    script/bootstrap --cuda \
    && cmake --preset release \
    && cmake --install build/release --prefix /cuda --component cuda --strip \
    && rm -rf .deps
FROM runtime AS cuda
COPY --from=cuda-libraries /cuda /usr
# What the container toolkit brings in: the driver's libraries, and NVML for the metrics.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

# ---- cpu: the default
FROM runtime AS cpu
