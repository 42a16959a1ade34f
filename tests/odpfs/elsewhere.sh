#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: elsewhere.sh ODPFS RECALL
# Regions on files of odpfs, registered where it would not find them: in another run
# directory, also as another user.
set -u
recall=$2
# shellcheck source=tests/odpfs/mount.sh
. "$(dirname "$0")/mount.sh"

others=$tmp/others
mkdir -m 700 "$others"
register() { # POLICY: here, in another run directory; what it says in $tmp/said
	(cd "$mnt" && exec env UODP_DIR="$others" "$recall" --owner file "$1" 0 \
		</dev/null >"$tmp/hello" 2>"$tmp/said")
	# The first word of what it answers with is 0 or an errno.
	err=$(od -An -td4 -N4 "$tmp/hello" | tr -d ' ')
}
refused() { # WHO: for want of the watch, with its run directory
	[ "$err" = 95 ] && grep -q "another run directory, $UODP_DIR," "$tmp/said" ||
		fault "$1: $err: $(cat "$tmp/said")"
}

mount_odpfs -o uodp=require || exit 1
head -c 32768 /dev/zero >"$mnt/file"
for policy in default odp pinned revoke deny; do
	register $policy
	refused "$policy, in another run directory"
done
(cd "$mnt" && "$recall" --owner file revoke 0 </dev/null >"$tmp/hello") ||
	fault "the run directory of the mount: status $?"
[ "$(od -An -td4 -N4 "$tmp/hello" | tr -d ' ')" = 0 ] || fault "the run directory of the mount"
unmount_odpfs

# Where nothing is watched, nothing is missed.
mount_odpfs -o uodp=off || exit 1
register odp
[ "$err" = 0 ] || fault "uodp=off: $err: $(cat "$tmp/said")"
register deny
[ "$err" = 95 ] && ! grep -q "another run directory" "$tmp/said" ||
	fault "uodp=off, deny: $err: $(cat "$tmp/said")"
unmount_odpfs

# The same as another user, under allow_other.
if [ "$(id -u)" != 0 ]; then
	echo "skipped: another user: it takes root to be one"
	exit "$failed"
fi
chmod 711 "$tmp"
mount_odpfs -o uodp=require,allow_other || exit 1
chmod 666 "$mnt/file"
others=$tmp/another
mkdir -m 700 "$others"
chown 65534:65534 "$others"
register_as() {
	(cd "$mnt" && exec setpriv --reuid=65534 --regid=65534 --clear-groups \
		env UODP_DIR="$others" "$recall" --owner file "$1" 0 \
		</dev/null >"$tmp/hello" 2>"$tmp/said")
	err=$(od -An -td4 -N4 "$tmp/hello" | tr -d ' ')
}
for policy in default revoke; do
	register_as $policy
	refused "$policy, as another user"
done
unmount_odpfs
mount_odpfs -o uodp=off,allow_other || exit 1
register_as odp
[ "$err" = 0 ] || fault "another user, uodp=off: $err: $(cat "$tmp/said")"
unmount_odpfs
exit "$failed"
