#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: rights.sh ODPFS RIGHTS
# Several users on one mount of root's: as on the backing file system itself.
set -u
rights=$2
# shellcheck source=tests/odpfs/mount.sh
. "$(dirname "$0")/mount.sh"
if [ "$(id -u)" != 0 ]; then
	echo "skipped: only root is several users"
	exit 77
fi

chmod 755 "$tmp"
chmod 777 "$back"
mount_odpfs -o allow_other || exit 1
if "$rights" "$back" >"$tmp/out" 2>&1; then
	"$rights" "$mnt" || fault "rights"
else
	echo "skipped: not even the backing file system does it: $(cat "$tmp/out")"
	failed=77
fi
unmount_odpfs

# The kernel asks for the capabilities of a program once, not before each write.
"$odpfs" -f -d "$back" "$mnt" 2>"$tmp/requests" &
daemon=$!
await answers || fault "odpfs -d is not there after a minute"
dd if=/dev/zero of="$mnt/file" bs=1k count=1000 2>"$tmp/out" || fault "dd: $(cat "$tmp/out")"
unmount_odpfs
count=$(grep -c "GETXATTR" "$tmp/requests")
[ "$count" -lt 100 ] || fault "$count times GETXATTR for 1,000 writes"
exit $failed
