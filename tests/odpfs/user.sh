#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: user.sh ODPFS FEATURES LIMITS
# As an ordinary user, with few descriptors and many files.
set -u
features=$2 limits=$3
# shellcheck source=tests/odpfs/mount.sh
. "$(dirname "$0")/mount.sh"

# Root becomes somebody else; who is that already stays so.
if [ "$(id -u)" = 0 ]; then
	chown -R 65534:65534 "$tmp"
	as_user() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
	mkdir "$tmp/uodp" && chown 65534:65534 "$tmp/uodp" && chmod 700 "$tmp/uodp"
	export UODP_DIR="$tmp/uodp"
else
	as_user() { "$@"; }
fi
if ! as_user "$odpfs" --version >"$tmp/out" 2>&1; then
	echo "skipped: an ordinary user cannot run $odpfs: $(cat "$tmp/out")"
	exit 77
fi

(
	# shellcheck disable=SC3045 # dash and bash have it
	ulimit -n 500
	as_user "$odpfs" "$back" "$mnt"
) >"$tmp/out" 2>&1
status=$?
if grep -q "^fusermount3: .*not permitted" "$tmp/out"; then
	echo "skipped: fusermount3 does not mount for ordinary users here: $(cat "$tmp/out")"
	exit 77
fi
[ $status -eq 0 ] || fault "status $status: $(cat "$tmp/out")"
as_user "$features" "$mnt" || fault "features"

# Many more directories, links and files than descriptors; and who is in a directory
# still knows where. Root itself has no access to the user's mount.
# shellcheck disable=SC2016 # the user's shell expands it
as_user sh -c '
	mkdir "$1/dirs" "$1/links" && mkfifo "$1/go" || exit
	for i in $(seq 20); do
		mkdir "$1/in$i" && cd "$1/in$i" && : >here && read -r _ <"$1/go" &&
			readlink /proc/self/cwd &
	done
	until [ "$(find "$1" -name here | wc -l)" = 20 ]; do sleep 0.1; done
	seq -f "$1/dirs/%g" 700 | xargs mkdir || exit
	seq -f "../dirs/%g" 700 | xargs ln -s -t "$1/links" || exit
	exec 9<>"$1/go"
	yes "" | head -n 20 >&9
	wait
	find "$1/dirs" "$1/links" | wc -l
	rm -r "$1/dirs" "$1/links" "$1"/in* "$1/go"
' sh "$mnt" >"$tmp/out" 2>&1 || fault "directories and links: status $?: $(head "$tmp/out")"
[ "$(grep -c "^$mnt/in[0-9]*\$" "$tmp/out")" = 20 ] && [ "$(tail -n 1 "$tmp/out")" = 1402 ] ||
	fault "directories and links: $(cat "$tmp/out")"
as_user mkdir "$mnt/many" || fault "mkdir"
as_user sh -c 'i=0; while [ $i -lt 700 ]; do echo $i >"$1/many/$i" || exit 1; i=$((i + 1)); done' \
	sh "$mnt" || fault "cannot make 700 files with 500 descriptors"
sum=$(as_user sh -c 'ls -l "$1/many" >/dev/null; cat "$1"/many/*' sh "$mnt" | awk '{s += $1} END {print s}')
[ "$sum" = 244650 ] || fault "the files sum up to $sum"
as_user rm -r "$mnt/many" || fault "cannot remove them"

# A program of the user's own that may be run, and not read.
# shellcheck disable=SC2016 # the user's shell expands it
as_user sh -c '
	cp "$(command -v ls)" "$1/program" && chmod 0111 "$1/program" || exit 2
	for i in 1 2 3; do
		"$1/program" / >/dev/null || exit 3
		[ "$(stat -c %a "$1/program")" = 111 ] || exit 4
	done
	! cat "$1/program" >/dev/null 2>&1 || exit 5
	chmod 0666 "$1/program" && ! "$1/program" / >/dev/null 2>&1 || exit 6
	chmod 0111 "$1/program" && "$1/program" / >/dev/null || exit 7
' sh "$mnt" >"$tmp/out" 2>&1 || fault "a program that is only executable: status $?: $(cat "$tmp/out")"
[ "$(stat -c %a "$back/program")" = 111 ] || fault "its mode: $(stat -c %a "$back/program")"
as_user fusermount3 -u "$mnt" || fault "the user cannot unmount"

# As many files open as odpfs allows: all others are there still.
(
	# shellcheck disable=SC3045 # dash and bash have it
	ulimit -n 256
	as_user "$odpfs" "$back" "$mnt"
) || fault "cannot mount with 256 descriptors"
as_user mkdir "$mnt/limits" || fault "mkdir"
as_user "$limits" "$mnt/limits" || fault "limits"
as_user rm -r "$mnt/limits" || fault "rm after limits"
as_user fusermount3 -u "$mnt" || fault "the user cannot unmount"
exit $failed
