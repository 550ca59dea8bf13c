#!/bin/bash
# CNI: the reference plugin portmap fails CHECK right after its own ADD, for a
# container that has an IPv4 address and no IPv6 one.
#
# Guess, written down before: CHECK of a configuration that was just added, with
# the result of the ADD as prevResult and nothing changed since, succeeds (CNI
# specification 1.0.0, section 2, CHECK).
#
# Seen with containernetworking-plugins 1.1.1+ds1-3+b5 of Debian 12: ADD ends with
# 0, CHECK with 1: it looks for rules of IPv6, too, which ADD did not make. So a
# runtime that calls CHECK regularly reports pods that are in order; a list with
# portmap needs "disableCheck": true there. 1.9.1 passes.
#
# Needs root and apt-get, and iptables. Works in namespaces and a directory of its
# own.
set -eu
version=1.1.1+ds1-3+b5

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
chmod 755 .
apt-get -q -o APT::Sandbox::User=root download "containernetworking-plugins=$version" >/dev/null
dpkg -x containernetworking-plugins_*.deb .

cat >try.sh <<'SH'
set -eu
mount -t tmpfs tmpfs /run
ip link set lo up
touch pod
unshare --net=pod true
export CNI_PATH=usr/lib/cni CNI_CONTAINERID=one CNI_NETNS=$PWD/pod CNI_IFNAME=eth0
common='"cniVersion": "1.0.0", "name": "n"'
bridge="$common, \"type\": \"bridge\", \"bridge\": \"br0\", \"isGateway\": true,
  \"ipam\": { \"type\": \"host-local\", \"dataDir\": \"$PWD/leases\", \"subnet\": \"10.22.0.0/24\" }"
ports='"runtimeConfig": { "portMappings": [{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }] }'
first=$(echo "{ $bridge }" | CNI_COMMAND=ADD usr/lib/cni/bridge)
portmap="{ $common, \"type\": \"portmap\", \"capabilities\": { \"portMappings\": true }, $ports, \"prevResult\": $first }"
for command in ADD CHECK; do
    code=0
    echo "$portmap" | CNI_COMMAND=$command usr/lib/cni/portmap >said || code=$?
    echo "$command: $code"
done
umount pod
SH
seen=$(unshare --net --mount bash try.sh)
expected="ADD: 0
CHECK: 1"
if [ "$seen" != "$expected" ]; then
    printf 'this has changed:\n%s\n' "$seen"
    exit 1
fi
printf 'containernetworking-plugins %s:\n%s\n' "$version" "$seen"
