#!/bin/bash
# runc: what a profile's defaultErrnoRet says does not hold for calls that are
# newer than all that the profile names.
#
# Guess, written down before: with "defaultAction": "SCMP_ACT_ERRNO" and
# "defaultErrnoRet": 1 every call that the profile does not name fails with
# EPERM, because the specification (runtime-spec, config-linux, Seccomp) has
# defaultErrnoRet as the number to use.
#
# Seen with runc 1.1.5+ds1-1+deb12u1 of Debian 12, Linux 6.18, x86_64: a call
# with a smaller number than the newest named one fails with EPERM (1), one with
# a greater number with ENOSYS (38). So `defaultErrnoRet` does not decide for
# all, and who compares runtimes sees two answers for one profile.
#
# Needs root, apt-get and cc. Works in a directory of its own and removes it.
set -eu
version=1.1.5+ds1-1+deb12u1

work=$(mktemp -d)
id=newer-calls-$$
trap '"$work/usr/sbin/runc" --root "$work/state" delete -f "$id" >/dev/null 2>&1 || :; rm -rf "$work"' EXIT
cd "$work"
chmod 755 .
apt-get -q -o APT::Sandbox::User=root download "runc=$version" >/dev/null
dpkg -x runc_*.deb .
mkdir -p root state

cat >call.c <<'C'
/* Prints what two calls answer that the profile does not name. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>
#include <sys/syscall.h>
int main(void) {
    long old = syscall(SYS_acct, 0) < 0 ? errno : 0;
    long newer = syscall(4000) < 0 ? errno : 0;
    printf("older %ld newer %ld\n", old, newer);
    return 0;
}
C
cc -static -O1 -o root/call call.c

# Everything up to number 334 but acct(2), number 163.
names=$(cc -E -dM -include sys/syscall.h -x c /dev/null | sed -n 's/^#define __NR_\([a-z0-9_]*\) \([0-9]*\)$/\2 \1/p' |
    sort -n | awk '$1 <= 334 && $2 != "acct" { printf "%s\"%s\"", sep, $2; sep = "," }')

cat >config.json <<JSON
{
  "ociVersion": "1.0.2",
  "root": { "path": "root", "readonly": true },
  "process": { "user": { "uid": 0, "gid": 0 }, "args": ["/call"], "cwd": "/", "noNewPrivileges": true },
  "linux": {
    "namespaces": [{ "type": "mount" }, { "type": "pid" }],
    "seccomp": {
      "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "architectures": ["SCMP_ARCH_X86_64"],
      "syscalls": [{ "names": [$names], "action": "SCMP_ACT_ALLOW" }]
    }
  },
  "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc" }]
}
JSON
mkdir -p root/proc

seen=$(usr/sbin/runc --root state run --bundle . "$id" </dev/null)
echo "runc $version: $seen"
[ "$seen" = "older 1 newer 38" ] || { echo "changed: expected \"older 1 newer 38\"" >&2; exit 1; }
