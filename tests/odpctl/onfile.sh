#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: onfile.sh ODPCTL UODPRUN PROGRAM
# The regions on a part of a file are found, whoever owns them, and revoked.
# (Run it in a run directory of its own: isolate.sh.)
set -u
odpctl=$1 uodprun=$2 program=$3
tmp=$(mktemp -d /dev/shm/uodp-onfile.XXXXXX) || exit 1
pid=''
finish() {
	[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null
	rm -rf "$tmp"
}
trap finish EXIT
trap 'exit 143' INT TERM

failed=0
fault() {
	echo "FAILED: $*"
	failed=1
}
# rows N ARGUMENT...: so many regions are listed
rows() {
	want=$1
	shift
	got=$("$odpctl" "$@" mrs | tail -n +2 | wc -l)
	[ "$got" = "$want" ] || fault "odpctl $* mrs: $got rows, not $want"
}
# says TEXT ARGUMENT...
says() {
	want=$1
	shift
	got=$("$odpctl" "$@" 2>&1)
	[ "$got" = "$want" ] || fault "odpctl $*: \"$got\", not \"$want\""
}
# wrong STATUS ARGUMENT...
wrong() {
	want=$1
	shift
	"$odpctl" "$@" >/dev/null 2>"$tmp/err"
	got=$?
	[ $got = "$want" ] || fault "odpctl $*: status $got, not $want"
	[ "$(wc -l <"$tmp/err")" -ge 1 ] || fault "odpctl $*: says nothing"
}

truncate -s 32768 "$tmp/file"
truncate -s 32768 "$tmp/other"
mkfifo "$tmp/in"
says "revoked; processes: 0, memory regions: 0" -f "$tmp/file" revoke
"$uodprun" "$program" "$tmp/file" <"$tmp/in" >"$tmp/out" &
pid=$!
exec 3>"$tmp/in"
tries=0
until [ -s "$tmp/out" ]; do
	tries=$((tries + 1))
	if [ $tries -gt 600 ] || ! kill -0 $pid 2>/dev/null; then
		echo "FAILED: the program did not start"
		exit 1
	fi
	sleep 0.1
done

wrong 2 revoke
wrong 2 -r 0:1 mrs
wrong 2 -f "$tmp/file" -r x mrs
wrong 2 -f "$tmp/file" -r 0:0 revoke
wrong 2 -f "$tmp/file" qps
wrong 1 -f "$tmp/none" revoke
wrong 1 -f "$tmp" mrs
rows 3
rows 2 -f "$tmp/file"
rows 0 -f "$tmp/other"
rows 1 -f "$tmp/file" -r 0:16384
rows 1 -f "$tmp/file" -r 16384
rows 2 -f "$tmp/file" -r 0x3fff:2
rows 0 -f "$tmp/file" -r 32768
says "revoked; processes: 0, memory regions: 0" -f "$tmp/other" revoke
# The owner is not asked.
kill -STOP $pid
says "revoked; processes: 1, memory regions: 1" -f "$tmp/file" -r 16384:1 revoke
kill -CONT $pid
says "revoked; processes: 0, memory regions: 0" -f "$tmp/file" -r 16384:1 revoke
echo >&3
wait $pid
pid=''
grep -q '^memory 1 first 1 second 0$' "$tmp/out" || fault "the program says: $(cat "$tmp/out")"
exit $failed
