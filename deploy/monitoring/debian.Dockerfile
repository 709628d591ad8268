# One of Debian's packages as an image, where no registry can be reached:
#   docker build -f debian.Dockerfile --build-arg PACKAGE=prometheus -t swarmtrain/prometheus:debian .
ARG BASE_IMAGE=debian:trixie-slim
FROM ${BASE_IMAGE}
ARG PACKAGE
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates "$PACKAGE" \
    && rm -rf /var/lib/apt/lists/* \
    && ln -s "$(command -v "$PACKAGE")" /program
ENTRYPOINT ["/program"]
