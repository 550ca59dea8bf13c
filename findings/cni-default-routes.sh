#!/bin/bash
# CNI: of two networks that a container joins, the default route of the last is used,
# and for IPv6 that of both.
#
# Guess, written down before: a container's second ADD with a default route leaves
# that of the first in use: the kernel refuses another one of the same metric (EEXIST),
# which the plugin takes for "is there already".
#
# Seen with containernetworking-plugins 1.1.1+ds1-3+b5 of Debian 12, on Linux 6.18:
# the plugin does not ask for NLM_F_EXCL, so the kernel puts the second route before
# the first (IPv4), or makes one of both, with two next hops (IPv6). Answers to the
# first network's ports leave by the second: over UDP from its address. So a runtime
# that joins several networks has to say which one's default route stays. 1.9.1 does
# the same.
#
# Needs root and apt-get, and iproute2. Works in namespaces and a directory of its own.
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
touch pod
unshare --net=pod true
export CNI_PATH=usr/lib/cni CNI_CONTAINERID=one CNI_NETNS=$PWD/pod CNI_COMMAND=ADD
for n in 0 1; do
    echo "{ \"cniVersion\": \"1.0.0\", \"name\": \"n$n\", \"type\": \"bridge\", \"bridge\": \"br$n\", \"isGateway\": true,
      \"ipam\": { \"type\": \"host-local\", \"dataDir\": \"$PWD/leases\",
        \"ranges\": [[{ \"subnet\": \"10.$n.0.0/24\" }], [{ \"subnet\": \"fd0$n::/64\" }]],
        \"routes\": [{ \"dst\": \"0.0.0.0/0\" }, { \"dst\": \"::/0\" }] } }" |
        CNI_IFNAME=eth$n usr/lib/cni/bridge >said
done
nsenter --net=pod ip route get 192.0.2.1 | grep -o 'via.*src [^ ]*'
echo "next hops of IPv6: $(nsenter --net=pod ip -6 route show default | grep -c 'via fd')"
umount pod
SH
seen=$(unshare --net --mount bash try.sh)
expected="via 10.1.0.1 dev eth1 src 10.1.0.2
next hops of IPv6: 2"
if [ "$seen" != "$expected" ]; then
    printf 'this has changed:\n%s\n' "$seen"
    exit 1
fi
printf 'containernetworking-plugins %s:\n%s\n' "$version" "$seen"
