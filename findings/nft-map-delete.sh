#!/bin/bash
# nftables: an element of a map is deleted by its key alone, also by a request that
# names another value than it has.
#
# Guess, written down before: `delete element` with a key and a value is a compare
# and delete. If another program has put a new value there meanwhile it fails with
# ENOENT, so that two programs that share a map cannot take each other's elements
# away.
#
# Seen with nftables 1.0.6-2+deb12u2 of Debian 12, Linux 6.18: the command ends
# with 0, and the element with the other value is gone. Who wants a compare and
# delete has to add the element first, in the same transaction: to add one that is
# there with another value is refused (EEXIST), and then nothing is deleted.
#
# Needs root and apt-get. Works in a network namespace and a directory of its own.
set -eu
version=1.0.6-2+deb12u2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
chmod 755 .
apt-get -q -o APT::Sandbox::User=root download "nftables=$version" "libnftables1=$version" >/dev/null
for package in ./*.deb; do dpkg -x "$package" .; done
export LD_LIBRARY_PATH=$work/usr/lib/x86_64-linux-gnu

cat >try.sh <<'SH'
nft=usr/sbin/nft
$nft 'add table t; add map t m { type inet_service : ipv4_addr; elements = { 80 : 10.0.0.1 }; }'
$nft 'delete element t m { 80 : 10.0.0.9 }' && echo "another value: deleted"
$nft list map t m | grep -q 10.0.0.1 || echo "the element is gone"
$nft 'add element t m { 80 : 10.0.0.1 }'
$nft 'add element t m { 80 : 10.0.0.9 }; delete element t m { 80 : 10.0.0.9 }' 2>/dev/null || echo "added before: refused"
$nft list map t m | grep -q 10.0.0.1 && echo "the element is there"
SH
seen=$(unshare --net bash try.sh)
expected="another value: deleted
the element is gone
added before: refused
the element is there"
if [ "$seen" != "$expected" ]; then
    printf 'this has changed:\n%s\n' "$seen"
    exit 1
fi
printf 'nftables %s, Linux %s:\n%s\n' "$version" "$(uname -r)" "$seen"
