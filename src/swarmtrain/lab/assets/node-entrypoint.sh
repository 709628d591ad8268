# Start a Docker Engine as the only child of a container's first process.
# Reads /lab/daemon.json and /lab/resolver (an address, where no registry can be reached); leaves its socket in /lab.
set -eu

# With a cgroup namespace of its own, the container's view of its cgroups is safe to write: the engine makes the
# cgroups of its containers there, below the node's, so that the node's CPU limit and its freezer hold for them too.
for point in $(awk '$3 == "cgroup" || $3 == "cgroup2" {print $2}' /proc/mounts); do
    mount -o remount,bind,rw "$point"
done

# cgroup v2 hands controllers down only from a group without processes of its own.
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    mkdir -p /sys/fs/cgroup/init
    xargs -rn1 </sys/fs/cgroup/cgroup.procs >/sys/fs/cgroup/init/cgroup.procs 2>/dev/null || true
    sed -e 's/ / +/g' -e 's/^/+/' </sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
fi

# A resolver that says "no such name" at once. Its address is on the loopback interface, where it survives the
# unplugging of the cable and is still routed to from the engine's containers.
if [ -s /lab/resolver ]; then
    address=$(cat /lab/resolver)
    ip address replace "$address/32" dev lo
    dnsmasq --conf-file=/dev/null --no-resolv --no-hosts --bind-interfaces --listen-address="$address" \
        --except-interface=lo --address=/#/ --user=root
fi

exec dockerd --config-file /lab/daemon.json >/lab/dockerd.log 2>&1
