#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: features.sh ODPFS FEATURES
# What a file system is expected to do.
set -u
features=$2
# shellcheck source=tests/odpfs/mount.sh
. "$(dirname "$0")/mount.sh"

mount_odpfs || exit 1
"$features" "$mnt" || fault "features"
[ -z "$(ls -A "$mnt")" ] || fault "left behind: $(ls -A "$mnt")"

# df and ls -l show what is there.
df "$mnt" | grep -q "^$back .* $mnt\$" || fault "df: $(df "$mnt")"
echo text >"$mnt/file"
line=$(ls -ln "$mnt/file")
echo "$line" | grep -q "^-rw-r--r-- *1 $(id -u) $(id -g) *5 " || fault "ls -l: $line"
unmount_odpfs
[ "$(cat "$back/file")" = text ] || fault "the backing file is not what was written"

# Files of two file systems below BACKING are two files, whatever their numbers.
if [ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null; then
	mkdir "$back/other"
	unshare -m sh -c '
		mount -t tmpfs none "$1/other" && echo x >"$1/other/file" || exit 77
		"$2" "$1" "$3" || exit 1
		stat -c %i "$3/file" "$3/other/file" "$3/other" | sort -u | wc -l
		[ "$(cat "$3/other/file")" = x ] || exit 1
		fusermount3 -u "$3"
	' sh "$back" "$odpfs" "$mnt" >"$tmp/out" 2>&1
	status=$?
	[ $status -eq 77 ] || { [ $status -eq 0 ] && [ "$(cat "$tmp/out")" = 3 ]; } ||
		fault "two file systems: status $status, $(cat "$tmp/out")"
fi
exit $failed
