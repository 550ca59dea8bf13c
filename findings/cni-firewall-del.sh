#!/bin/bash
# CNI: the reference plugin firewall keeps its rules on DEL without prevResult, and
# says that all is well.
#
# Guess, written down before, as a test: DEL without a result, which is all that a
# runtime can send that was killed during ADD, takes away what ADD made, as that of
# bridge, portmap and host-local does.
#
# Seen with containernetworking-plugins 1.1.1+ds1-3+b5 of Debian 12: without
# prevResult DEL ends with 0 and removes nothing. So a runtime that was killed during
# ADD, or whose ADD failed at a plugin behind firewall, and that has no result of the
# whole list, leaves "accept" rules for an address that the next container gets. It
# has to keep the result of each plugin, and give the last one it has to DEL. 1.9.1
# does the same.
#
# Needs root and apt-get, and iptables. Works in namespaces and a directory of its own.
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
touch pod
unshare --net=pod true
export CNI_PATH=usr/lib/cni CNI_CONTAINERID=one CNI_NETNS=$PWD/pod CNI_IFNAME=eth0
result='"prevResult": { "cniVersion": "1.0.0", "interfaces": [{ "name": "eth0", "sandbox": "/pod" }],
  "ips": [{ "interface": 0, "address": "10.0.0.2/24" }] }'
firewall='"cniVersion": "1.0.0", "name": "n", "type": "firewall"'
call() {
    code=0
    echo "{ $2 }" | CNI_COMMAND=$1 usr/lib/cni/firewall >said || code=$?
    echo "$1: $code, rules: $(iptables-save | grep -c 10.0.0.2 || :)"
}
call ADD "$firewall, $result"
call DEL "$firewall"
call DEL "$firewall, $result"
umount pod
SH
seen=$(unshare --net --mount bash try.sh)
expected="ADD: 0, rules: 2
DEL: 0, rules: 2
DEL: 0, rules: 0"
if [ "$seen" != "$expected" ]; then
    printf 'this has changed:\n%s\n' "$seen"
    exit 1
fi
printf 'containernetworking-plugins %s:\n%s\n' "$version" "$seen"
