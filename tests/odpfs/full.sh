#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: full.sh ODPFS FULL [QUOTA]
# Backing file systems that are soon full, in a mount namespace of their own.
set -u
full=$2 quota=${3:-}
if [ "$(id -u)" != 0 ] || ! unshare -m true 2>/dev/null; then
	echo "skipped: only root makes small file systems"
	exit 77
fi
if [ "${UODP_TEST_UNSHARED:-}" != yes ]; then
	UODP_TEST_UNSHARED=yes exec unshare -m "$0" "$@"
fi
# shellcheck source=tests/odpfs/mount.sh
. "$(dirname "$0")/mount.sh"

mount -t tmpfs -o size=16m none "$back" || exit 1
mount_odpfs && {
	timeout 100 "$full" "$mnt" ENOSPC || fault "tmpfs: status $?"
	[ -z "$(ls "$mnt")" ] || fault "left behind: $(ls -l "$mnt")"
	# What programs say of it, and what is stored.
	timeout 60 dd if=/dev/zero of="$mnt/dd" bs=64k 2>"$tmp/out"
	[ $? -eq 1 ] && grep -q "No space left" "$tmp/out" || fault "dd: $(cat "$tmp/out")"
	[ "$(stat -c %s "$mnt/dd")" = "$(stat -c %s "$back/dd")" ] ||
		fault "dd: $(stat -c %s "$mnt/dd") of $(stat -c %s "$back/dd")"
	rm "$mnt/dd"
	unmount_odpfs
}
umount "$back"

if command -v mkfs.ext4 >/dev/null && truncate -s 40M "$tmp/image" &&
	mkfs.ext4 -q "$tmp/image" 2>"$tmp/out" && mount -o loop "$tmp/image" "$back" 2>>"$tmp/out"; then
	rmdir "$back/lost+found"
	mount_odpfs && {
		timeout 100 "$full" "$mnt" ENOSPC || fault "ext4: status $?"
		unmount_odpfs
	}
	await umount "$back" || fault "cannot unmount $back"
else
	echo "no ext4: $(cat "$tmp/out")"
fi

# Killed in the middle of putting files right that have found no room: it ends.
ended() { # PID
	! grep -q '^State:[[:space:]]*[^Z[:space:]]' "/proc/$1/status" 2>/dev/null
}
mount -t tmpfs -o size=2m none "$back" || exit 1
for round in 1 2 3 4 5 6 7 8 9; do
	mount_odpfs || break
	writers=
	for i in 1 2 3; do
		# The end of timeout is that of all that it started: dd may write to a dead
		# mount for ever.
		# shellcheck disable=SC2016 # the inner shell expands it
		timeout 60 sh -c 'while dd if=/dev/zero of="$1" bs=64k; [ $? -eq 1 ] && [ -e "$1" ]; do
			rm -f "$1"
		done' sh "$mnt/$i" 2>/dev/null &
		writers="$writers $!"
	done
	sleep 0.$round
	kill -9 "$daemon"
	if ! await ended "$daemon"; then
		fault "round $round: odpfs is there a minute after it was killed"
		umount -f "$mnt"
	fi
	wait "$daemon" 2>/dev/null
	daemon=
	# shellcheck disable=SC2086 # words
	kill $writers 2>/dev/null
	# shellcheck disable=SC2086
	wait $writers 2>/dev/null
	umount -l "$mnt" || fault "cannot unmount"
	rm -f "$back"/*
done
echo "killed $round times"
umount "$back"

# A quota: not every kernel has one.
if [ -n "$quota" ]; then
	LD_PRELOAD=$quota mount_odpfs && {
		timeout 100 "$full" "$mnt" EDQUOT || fault "quota: status $?"
		unmount_odpfs
	}
fi
exit $failed
