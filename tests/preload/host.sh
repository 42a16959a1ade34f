#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: host.sh UODPRUN HOST_DEVICE_LIBRARY LIST_OPEN
# uodp's devices beside one that the host has: a mount namespace of the test's own in
# which /sys/class and /dev are made up.
set -u
if [ "${HOST_INSIDE:-}" != 1 ]; then
	if ! unshare -m true 2>/dev/null; then
		echo 'skip: no mount namespace can be had (not root)'
		exit 77
	fi
	HOST_INSIDE=1 exec unshare -m "$0" "$@"
fi
unset UODP_ONLY
uodprun=$1 host=$2 list=$3
failed=0
fake=$UODP_DIR/fake
mkdir -p "$fake/class/infiniband/host0" "$fake/class/infiniband_verbs/uverbs0" \
	"$fake/dev/infiniband" "$fake/class/net"
(
	cd "$fake/class" || exit 1
	echo 6 >infiniband_verbs/abi_version
	echo 1 >infiniband_verbs/uverbs0/abi_version
	echo 231:192 >infiniband_verbs/uverbs0/dev
	echo host0 >infiniband_verbs/uverbs0/ibdev
	echo 1: CA >infiniband/host0/node_type
	echo 1122:3344:5566:7788 >infiniband/host0/node_guid
)
mount -t tmpfs none /sys/class && cp -a "$fake/class/." /sys/class/ || exit 1
mkdir "$fake/olddev" && mount --rbind /dev "$fake/olddev" && mount -t tmpfs none /dev || exit 1
for node in null zero full random urandom tty shm userfaultfd fuse fd ptmx pts; do
	[ ! -e "$fake/olddev/$node" ] || ln -s "$fake/olddev/$node" /dev/$node
done
mkdir /dev/infiniband && mknod -m 666 /dev/infiniband/uverbs0 c 1 3 || exit 1
echo 1:3 >/sys/class/infiniband_verbs/uverbs0/dev

# expect PATTERN COMMAND...: a line that matches (grep -E)
expect()
{
	pattern=$1
	shift
	out=$("$@" 2>&1)
	if ! printf '%s\n' "$out" | grep -Eq -e "$pattern"; then
		printf 'FAIL: %s\n  no /%s/ in:\n%s\n' "$*" "$pattern" "$out"
		failed=1
	fi
}
# shellcheck disable=SC2317 # called through expect
with_host() { LD_PRELOAD=$host "$uodprun" "$@"; }

expect '^2 devices$' with_host "$list"
expect '^host0 1122334455667788 Permission denied$' with_host "$list"
expect '^uodp0 [0-9a-f]{16} open, channel made$' with_host "$list"
expect '^host0: listed 1 times, opened 2 times$' with_host "$list"
expect '^1 devices$' with_host --only "$list"
expect '^uodp0 ' with_host --only "$list"
expect '^0$' sh -c "LD_PRELOAD=$host '$uodprun' --only '$list' 2>&1 | grep -c host0"
# Side by side for everything else as well.
expect '^host0 uodp0 $' "$uodprun" sh -c 'ls /sys/class/infiniband | tr "\n" " "'
expect '^uodp0 $' "$uodprun" --only sh -c 'ls /sys/class/infiniband | tr "\n" " "'
expect '^1122:3344:5566:7788$' "$uodprun" cat /sys/class/infiniband/host0/node_guid
expect 'No such file' "$uodprun" --only cat /sys/class/infiniband/host0/node_guid
expect '^rdma_cm uverbs0 uverbs65 $' "$uodprun" sh -c 'ls /dev/infiniband | tr "\n" " "'
# The host's file is the host's, and can be written.
expect '^written$' "$uodprun" sh -c 'echo x >/dev/infiniband/uverbs0 && echo written'
exit $failed
