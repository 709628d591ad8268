# A lab node: a Docker Engine in a container. Nothing of it is specific to one lab.
# ENGINE are the packages that bring the engine, APT options for apt.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
ARG ENGINE
ARG APT
RUN apt-get ${APT} update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates dnsmasq-base iproute2 iptables procps tini ${ENGINE} \
    && rm -rf /var/lib/apt/lists/*
COPY node-entrypoint.sh /usr/local/bin/node-entrypoint
# The first process reaps what a machine's init reaps: a Docker Engine leaves orphans as zombies.
ENTRYPOINT ["tini", "--", "sh", "/usr/local/bin/node-entrypoint"]
