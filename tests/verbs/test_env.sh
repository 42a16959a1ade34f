#!/bin/bash
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: test_env.sh UODPRUN
# Bad environment values and run directories: the program goes on or fails by
# itself, with a line on stderr that names the culprit, and never dies by a signal.
set -u
uodprun=${1:?usage: test_env.sh UODPRUN}
command -v ibv_devinfo >/dev/null || { echo "skip: no ibv_devinfo (package ibverbs-utils)"; exit 77; }
tmp=$(mktemp -d "${TMPDIR:-/tmp}/uodp-env.XXXXXX") || exit 1
trap 'chmod -R u+rwx "$tmp" 2>/dev/null; rm -rf "$tmp"' EXIT
export XDG_RUNTIME_DIR=$tmp/xdg
mkdir -m 700 "$XDG_RUNTIME_DIR"
failed=0

fail() {
	echo "FAIL $name: $*"
	sed 's/^/    /' "$tmp/err"
	failed=1
}

# devinfo NAME=VALUE...: runs ibv_devinfo with these; leaves status, out and err.
devinfo() {
	timeout -s KILL 60 env "$@" "$uodprun" ibv_devinfo >"$tmp/out" 2>"$tmp/err" </dev/null
	status=$?
	not_killed
}

# ibv_devinfo itself ends with 255 when it finds no device.
not_killed() {
	[ $status -lt 126 ] || [ $status -eq 255 ] ||
		fail "status $status: ended by a signal, or not at all"
}

# refused PATTERN: the program fails, and exactly one line of stderr is the
# device's, matching PATTERN.
refused() {
	[ $status -ne 0 ] || fail "accepted"
	one_line "$1"
}

one_line() {
	local n
	n=$(grep -c '^uodp' "$tmp/err")
	if [ "$n" -ne 1 ]; then
		fail "$n lines of the device on stderr, expected one"
	fi
	grep -q -e "$1" "$tmp/err" || fail "no line matches '$1'"
}

accepted() {
	[ $status -eq 0 ] || fail "refused"
	grep -q "hca_id:.*$1" "$tmp/out" || fail "$1 is not listed"
}

# errno_is TEXT: that is what ibv_get_device_list() failed with.
errno_is() {
	grep -q "devices list: $1" "$tmp/err" || fail "another error than '$1'"
}

silent() {
	! grep -q . "$tmp/err" || fail "not silent"
}

name="a good directory"
devinfo UODP_DIR="$tmp/good"
accepted uodp0
silent
[ "$(stat -c %a "$tmp/good")" = 700 ] || fail "made with mode $(stat -c %a "$tmp/good")"

name="the directory from XDG_RUNTIME_DIR"
devinfo -u UODP_DIR
accepted uodp0
[ -d "$XDG_RUNTIME_DIR/uodp" ] || fail "not there"

name="open to others"
mkdir -m 755 "$tmp/open"
devinfo UODP_DIR="$tmp/open"
refused "$tmp/open"
errno_is "Permission denied"

name="a file instead of a directory"
echo hello >"$tmp/file"
devinfo UODP_DIR="$tmp/file"
refused "$tmp/file"
errno_is "Not a directory"
[ "$(cat "$tmp/file")" = hello ] || fail "the file was changed"

name="a symbolic link"
mkdir -m 700 "$tmp/target"
ln -s "$tmp/target" "$tmp/link"
devinfo UODP_DIR="$tmp/link"
refused "$tmp/link"
errno_is "Not a directory"

name="a parent that does not exist"
devinfo UODP_DIR="$tmp/none/such"
refused "$tmp/none/such"
errno_is "No such file or directory"

name="a path that is too long"
devinfo UODP_DIR="$tmp/$(printf 'x%.0s' {1..300})"
refused "long"
errno_is "File name too long"

name="owned by another user"
if [ "$(id -u)" -eq 0 ]; then
	mkdir -m 700 "$tmp/foreign"
	chown 12345 "$tmp/foreign"
	devinfo UODP_DIR="$tmp/foreign"
	refused "$tmp/foreign"
	errno_is "Permission denied"
else
	echo "skip $name: only root can make such a directory"
fi

name="read-only"
if mkdir -m 500 "$tmp/ro" && ! touch "$tmp/ro/x" 2>/dev/null; then
	devinfo UODP_DIR="$tmp/ro"
	refused "$tmp/ro"
elif mount -t tmpfs -o ro,mode=700 none "$tmp/ro" 2>/dev/null; then
	devinfo UODP_DIR="$tmp/ro"
	refused "$tmp/ro"
	umount "$tmp/ro"
else
	echo "skip $name: this user writes everywhere and may not mount"
fi

# Every file of a directory that a process has used, damaged in several ways.
name="a good directory, for its files"
devinfo UODP_DIR="$tmp/model"
accepted uodp0
files=$(cd "$tmp/model" && find . -type f -size +0 ! -path './sys*' ! -path './dev*' | head -40)
[ -n "$files" ] || fail "no files there"
for file in $files; do
	for how in zeros ones empty short directory; do
		name="$file damaged: $how"
		rm -rf "$tmp/bad"
		cp -a "$tmp/model" "$tmp/bad"
		f=$tmp/bad/$file
		case $how in
		zeros) dd if=/dev/zero of="$f" bs=4096 count=1 conv=notrunc status=none ;;
		ones) head -c 4096 /dev/zero | tr '\0' '\377' | dd of="$f" conv=notrunc status=none ;;
		empty) : >"$f" ;;
		short) truncate -s 100 "$f" ;;
		directory) rm -f "$f" && mkdir "$f" ;;
		esac
		devinfo UODP_DIR="$tmp/bad"
		# What can be made anew may be; what cannot is refused with one line.
		if [ $status -eq 0 ]; then accepted uodp0; else one_line "$tmp/bad"; fi
	done
done

name="an unknown backing"
devinfo UODP_DIR="$tmp/good" UODP_BACKING=granite
one_line granite

for size in 1M:1048576 1000000:999424 0:none; do
	name="UODP_DM_SIZE=${size%:*}"
	timeout -s KILL 60 env UODP_DIR="$tmp/good" "$name" "$uodprun" ibv_devinfo -v \
		>"$tmp/out" 2>"$tmp/err" </dev/null
	got=$(sed -n 's/.*available device memory:[[:space:]]*\([0-9]*\).*/\1/p' "$tmp/out")
	[ "${got:-none}" = "${size#*:}" ] || fail "${got:-no} bytes of device memory"
done
for bad in lots -1 1M1 2000G; do
	name="UODP_DM_SIZE=$bad"
	devinfo UODP_DIR="$tmp/good" UODP_DM_SIZE="$bad"
	accepted uodp0
	one_line "UODP_DM_SIZE=$bad"
done

name="device names"
devinfo UODP_DIR="$tmp/good" UODP_DEVICES=alpha,beta
accepted alpha
accepted beta
for bad in "a/b" ".." "a b" ",,," "$(printf 'y%.0s' {1..80})" "x,x" "$(seq -s, 1 40)"; do
	name="device names '${bad:0:30}'"
	devinfo UODP_DIR="$tmp/good" UODP_DEVICES="$bad"
	one_line "UODP_DEVICES: .* skipped: "
	[ $status -eq 0 ] || errno_is "Invalid argument"
done

name="an empty list of device names"
devinfo UODP_DIR="$tmp/good" UODP_DEVICES=
accepted uodp0

# What a newcomer meets: the refusal has a line that says what to do.
name="a path without a GID"
if command -v ibv_rc_pingpong >/dev/null; then
	# The server is the first to go to RTR, when a client has come.
	UODP_DIR=$tmp/good timeout -s KILL 60 "$uodprun" ibv_rc_pingpong -d uodp0 -p 18599 \
		>/dev/null 2>"$tmp/err" &
	server=$!
	while kill -0 $server 2>/dev/null && ! grep -q '^uodp' "$tmp/err"; do
		UODP_DIR=$tmp/good timeout -s KILL 60 "$uodprun" ibv_rc_pingpong -d uodp0 -p 18599 \
			localhost >/dev/null 2>&1
	done
	wait $server
	one_line "without a GRH: .* -g 1"
fi

name="UODP_ONLY that is neither 0 nor 1"
devinfo UODP_DIR="$tmp/good" UODP_ONLY=maybe
[ $status -le 1 ] || fail "status $status"

name="no room for files"
timeout -s KILL 60 bash -c "ulimit -f 0; trap '' XFSZ; UODP_DIR=$tmp/full exec '$uodprun' ibv_devinfo" \
	>"$tmp/out" 2>"$tmp/err"
status=$?
not_killed

name="few descriptors"
for n in 4 6 8 10 12 16 20 24; do
	name="$n descriptors"
	timeout -s KILL 60 bash -c "ulimit -n $n; UODP_DIR=$tmp/good exec '$uodprun' ibv_devinfo" \
		>"$tmp/out" 2>"$tmp/err" </dev/null
	status=$?
	# below that the dynamic linker itself gives up, with 127
	[ $status -eq 127 ] || not_killed
done

name="little address space"
sizes="100000 400000"
[ -z "${UODP_PRELOAD_FIRST:-}" ] || sizes= # a sanitizer wants terabytes
for n in $sizes; do
	timeout -s KILL 60 bash -c "ulimit -v $n; UODP_DIR=$tmp/good exec '$uodprun' ibv_devinfo" \
		>"$tmp/out" 2>"$tmp/err" </dev/null
	status=$?
	[ $status -eq 127 ] || not_killed
	[ $status -eq 0 ] || [ -s "$tmp/err" ] || fail "$n KiB: fails without a word"
done

name="after all that"
devinfo UODP_DIR="$tmp/good"
accepted uodp0
silent

[ $failed -eq 0 ] && echo "bad environments: all refused or survived"
exit $failed
