# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# shellcheck shell=sh
# For the tests of odpfs: . mount.sh ODPFS
# Sets tmp (a directory of their own), back and mnt; unmounts and removes them at the end.
odpfs=$1
if [ ! -w /dev/fuse ]; then
	echo "skipped: no /dev/fuse that can be written"
	exit 77
fi
if ! command -v fusermount3 >/dev/null; then
	echo "skipped: fusermount3 is not installed (package fuse3)"
	exit 77
fi

tmp=$(mktemp -d "${TMPDIR:-/tmp}/odpfs-test.XXXXXX") || exit 1
back=$tmp/back mnt=$tmp/mnt
mkdir "$back" "$mnt"
daemon=

failed=0
fault() {
	echo "FAILED: $*"
	# shellcheck disable=SC2034 # whoever sources this exits with it
	failed=1
}

is_mounted() { # DIRECTORY
	grep -q " $1 fuse.odpfs " /proc/self/mounts
}

await() { # COMMAND...: until it succeeds; false after a minute
	tries=0
	until "$@"; do
		tries=$((tries + 1))
		[ $tries -lt 600 ] || return 1
		sleep 0.1
	done
}

# In the foreground of its own, so that its messages and its end are seen.
mount_odpfs() { # [OPTION...]
	"$odpfs" -f "$@" "$back" "$mnt" 2>"$tmp/messages" &
	daemon=$!
	if ! await answers; then
		cat "$tmp/messages"
		fault "odpfs is not there after a minute"
		return 1
	fi
}
answers() {
	is_mounted "$mnt" && ls "$mnt" >/dev/null
}

unmount_odpfs() { # and the daemon ends well
	await fusermount3 -u "$mnt" 2>"$tmp/unmount" || {
		cat "$tmp/unmount"
		fault "cannot unmount"
	}
	wait "$daemon"
	status=$?
	daemon=
	[ $status -eq 0 ] || {
		cat "$tmp/messages"
		fault "odpfs ended with status $status"
	}
}

finish() {
	cd /
	[ -z "$daemon" ] || kill -9 "$daemon" 2>/dev/null
	for dir in "$tmp"/*; do
		if is_mounted "$dir"; then
			fusermount3 -u -z "$dir"
		fi
	done
	# Never through a mount: -x stays on one file system.
	find "$tmp" -xdev -depth -delete 2>/dev/null
}
trap finish EXIT
trap 'exit 143' INT TERM
