#!/bin/bash
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: user.sh ODPCTL UODPRUN
# An ordinary user who may not use userfaultfd is told so once in a run directory, and of
# a command that allows it; then it is used.
set -u
odpctl=${1:?usage: user.sh ODPCTL UODPRUN} uodprun=${2:?}
if [ "$(id -u)" != 0 ]; then
	echo "skipped: only root can change who may use userfaultfd"
	exit 77
fi
for need in setfacl setpriv unshare ibv_devinfo; do
	command -v $need >/dev/null || { echo "skipped: no $need"; exit 77; }
done
if [ "$(cat /proc/sys/vm/unprivileged_userfaultfd 2>/dev/null)" != 0 ] || [ ! -c /dev/userfaultfd ]; then
	echo "skipped: this host allows userfaultfd to all, or has no /dev/userfaultfd"
	exit 77
fi
# A device file of its own in the place of the host's, which stays as it is.
if [ -z "${UODP_TEST_INSIDE:-}" ]; then
	UODP_TEST_INSIDE=1 exec unshare -m --propagation private "$0" "$@"
fi
umask 022
tmp=$(mktemp -d "${TMPDIR:-/tmp}/uodp-user.XXXXXX") || exit 1
trap 'umount /dev/userfaultfd "$tmp/dev" 2>/dev/null; rm -rf "$tmp"' EXIT
mkdir "$tmp/dev" && mount -t tmpfs -o mode=755 none "$tmp/dev" &&
	mknod -m 600 "$tmp/dev/u" c "0x$(stat -c %t /dev/userfaultfd)" "0x$(stat -c %T /dev/userfaultfd)" &&
	mount --bind "$tmp/dev/u" /dev/userfaultfd || {
	echo "skipped: no device file can be made here"
	exit 77
}
chmod 755 "$tmp"
for dir in one two; do
	mkdir -m 700 "$tmp/$dir" && chown 65534:65534 "$tmp/$dir"
done
failed=0
fail() {
	echo "FAIL $*"
	failed=1
}
as_user() { setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all "$@"; }

# said DIR: how many lines on userfaultfd two processes print.
said() {
	for i in 1 2; do
		as_user env UODP_DIR="$tmp/$1" "$uodprun" ibv_devinfo -d uodp0 2>&1
	done >"$tmp/said"
	grep -c userfaultfd "$tmp/said"
}

as_user "$odpctl" caps >/dev/null 2>&1
if [ $? -gt 1 ]; then
	echo "skipped: an ordinary user cannot run $odpctl"
	exit 77
fi
[ "$(said one)" = 1 ] || fail "not one line in a run directory: $(cat "$tmp/said")"
[ "$(said two)" = 1 ] || fail "not one line in another: $(cat "$tmp/said")"
command=$(as_user "$odpctl" caps | sed -n 's/^To allow userfaultfd: sudo //p')
[ "$command" = "setfacl -m u:65534:rw /dev/userfaultfd" ] || fail "caps: '$command'"
grep -qF "$command" "$tmp/said" || fail "the line names another command: $(cat "$tmp/said")"
as_user "$odpctl" --json caps | grep -qF "\"remedy\": \"sudo $command\"" || fail "JSON names none"

$command || fail "$command: status $?"
as_user "$odpctl" caps | grep -Eq '^userfaultfd +yes' || fail "still not allowed"
as_user "$odpctl" caps | grep -q '^To allow userfaultfd' && fail "a command for what is allowed"
rm -r "$tmp/two"
mkdir -m 700 "$tmp/two" && chown 65534:65534 "$tmp/two"
[ "$(said two)" = 0 ] || fail "allowed, and yet: $(cat "$tmp/said")"
if command -v ib_write_bw >/dev/null; then
	as_user env UODP_DIR="$tmp/two" "$uodprun" --pair ib_write_bw -F -d uodp0 -x 1 -D 3 >/dev/null 2>&1 &
	for ((i = 0; i < 50; i++)); do
		backing=$(as_user env UODP_DIR="$tmp/two" "$odpctl" --json mrs | sed -n 's/.*"backing": "\([a-z]*\)".*/\1/p' | head -n 1)
		[ -z "$backing" ] || break
		sleep 0.1
	done
	wait
	[ "$backing" = pool ] || fail "the backing is '$backing'"
fi
exit $failed
