#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: plug.sh ODPCTL UODPRUN HOLDER
# A device is taken away from living programs, one of them stopped, and given back.
# (Run it in a run directory of its own: isolate.sh.)
set -u
odpctl=$1 uodprun=$2 holder=$3
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }
command -v ibv_devices >/dev/null || { echo "skipped: no ibv_devices"; exit 77; }

tmp=$(mktemp -d) || exit 1
first='' second=''
finish() {
	[ -z "$first" ] || kill -9 "$first" 2>/dev/null
	[ -z "$second" ] || kill -9 "$second" 2>/dev/null
	rm -rf "$tmp"
}
trap finish EXIT
trap 'exit 143' INT TERM

failed=0
fault() {
	echo "FAILED: $*"
	failed=1
}
# expect STATUS ARGUMENT...
expect() {
	want=$1
	shift
	timeout 60 "$odpctl" "$@" >"$tmp/out" 2>"$tmp/err"
	status=$?
	[ $status = "$want" ] || fault "odpctl $*: status $status, not $want: $(cat "$tmp/err")"
}
start() { # NAME: sets started
	mkfifo "$tmp/$1.in"
	"$uodprun" "$holder" <"$tmp/$1.in" >"$tmp/$1" &
	started=$!
}
wait_line() { # FILE PID
	tries=0
	until [ -s "$1" ]; do
		tries=$((tries + 1))
		if [ $tries -gt 600 ] || ! kill -0 "$2" 2>/dev/null; then
			echo "FAILED: the program did not start"
			exit 1
		fi
		sleep 0.1
	done
}
# value NAME: of the JSON object in $tmp/out
value() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$tmp/out" "$1"; }
listed() { "$uodprun" ibv_devices | grep -qw uodp0; }

# ---- nobody there, and wrong usage ----

expect 1 unplug uodp0
[ -z "$(ls -A "$UODP_DIR")" ] || fault "a device that is not there was unplugged"
expect 2 unplug
expect 2 plug
expect 2 unplug uodp0 uodp1

# ---- two programs, one of them stopped ----

start first
first=$started
exec 8>"$tmp/first.in"
start second
second=$started
exec 9>"$tmp/second.in"
wait_line "$tmp/first" "$first"
wait_line "$tmp/second" "$second"
expect 1 unplug ../uodp0
expect 1 unplug nosuch
expect 1 unplug uodp0 --pid 1
listed || fault "uodp0 is not listed"

kill -STOP "$second"
expect 0 unplug uodp0 --json --pid "$second"
[ "$(value processes)" = 1 ] || fault "unplug --pid: $(cat "$tmp/out")"
[ "$(value qps)" -ge 1 ] || fault "unplug --pid: no queue pairs: $(cat "$tmp/out")"
[ "$(value mrs)" -ge 1 ] || fault "unplug --pid: no regions: $(cat "$tmp/out")"
"$odpctl" qps --json --pid "$second" >"$tmp/qps"
! grep -q '"RTS"' "$tmp/qps" || fault "a queue pair of the stopped process still works"
"$odpctl" qps --json --pid "$first" >"$tmp/qps"
grep -q '"RTS"' "$tmp/qps" || fault "a queue pair of the other process does not work"
listed || fault "uodp0 went for those that kept it"

expect 0 unplug uodp0
grep -q 'processes: [2-9]' "$tmp/out" || fault "unplug: $(cat "$tmp/out")"
"$odpctl" qps --json >"$tmp/qps"
! grep -q '"RTS"' "$tmp/qps" || fault "a queue pair still works"
"$odpctl" mrs --json >"$tmp/mrs"
! grep -q '"pages_valid": *[1-9]' "$tmp/mrs" || fault "regions have valid pages: $(cat "$tmp/mrs")"
"$odpctl" devices | grep -q '^uodp0 .*UNPLUGGED' || fault "devices: $("$odpctl" devices)"
! listed || fault "uodp0 is still listed"

expect 0 plug uodp0
"$odpctl" devices | grep -q '^uodp0 .*ACTIVE' || fault "devices: $("$odpctl" devices)"
listed || fault "uodp0 is not listed again"
kill -CONT "$second"

# Their objects are destroyed as always.
exec 8>&- 9>&-
wait "$first" || fault "the first program failed"
first=
wait "$second" || fault "the second program failed"
second=

# ---- programs that come and go meanwhile ----

# Some find it, some do not, and some end while they are being dealt with.
come_and_go() {
	n=0
	while [ $n -lt 20 ]; do
		"$uodprun" "$holder" </dev/null
		n=$((n + 1))
	done >/dev/null 2>&1
}
come_and_go &
first=$!
come_and_go &
second=$!
while kill -0 $first 2>/dev/null || kill -0 $second 2>/dev/null; do
	expect 0 unplug uodp0
	expect 0 plug uodp0
done
first='' second=''
listed || fault "uodp0 is not listed in the end"
exit $failed
