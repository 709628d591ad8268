# A lab node: a Docker Engine in a container. Nothing of it is specific to one lab.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates dnsmasq-base docker.io iproute2 iptables procps \
    && rm -rf /var/lib/apt/lists/*
COPY node-entrypoint.sh /usr/local/bin/node-entrypoint
ENTRYPOINT ["sh", "/usr/local/bin/node-entrypoint"]
