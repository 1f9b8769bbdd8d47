#!/bin/sh
# boot.sh IMAGE DIRECTORY NAME CGROUP.PROCS...: boots a host on its layer until it is switched off.
# It runs in mount, process and network namespaces of its own: what it mounts goes with it.
set -eu
image=$1 directory=$2 name=$3
shift 3
for procs; do echo 0 >"$procs"; done
mount -t overlay overlay \
    -o "lowerdir=$image,upperdir=$directory/upper,workdir=$directory/work" "$directory/root"
# Guests see cgroup2 whatever this machine has. Landlock is not on nspawn's list of system calls.
export UNIFIED_CGROUP_HIERARCHY=1
status=133
while [ "$status" = 133 ]; do # 133: the guest asked for a reboot
    status=0
    systemd-nspawn --quiet --register=no --keep-unit --boot --machine="$name" \
        --directory="$directory/root" --network-namespace-path=/proc/self/ns/net \
        --resolv-conf=off --timezone=off --link-journal=no \
        --system-call-filter="landlock_create_ruleset landlock_add_rule landlock_restrict_self" \
        systemd.show_status=no || status=$?
done
exit "$status"
