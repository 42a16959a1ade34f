#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: live.sh ODPCTL UODPRUN HOLDER
# odpctl shows what living programs hold, does not disturb them, and forgets
# them when they are gone. (Run it in a run directory of its own: isolate.sh.)
set -u
here=$(cd "$(dirname "$0")" && pwd)
odpctl=$1 uodprun=$2 holder=$3
command -v python3 >/dev/null || { echo "skipped: no python3"; exit 77; }

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

# ---- nobody there ----

for sub in devices processes qps cqs mrs stats; do
	out=$("$odpctl" $sub --json --dir "$tmp/none") || fault "$sub: status $? without a directory"
	[ "$out" = "[]" ] || fault "$sub prints $out without a directory"
	out=$("$odpctl" $sub) || fault "$sub: status $? in an empty directory"
	[ "$(printf '%s\n' "$out" | wc -l)" = 1 ] || fault "$sub prints more than a head: $out"
done
"$odpctl" >"$tmp/out" || fault "overview: status $? in an empty directory"
[ ! -e "$tmp/none" ] || fault "odpctl made the directory"
[ -z "$(ls -A "$UODP_DIR")" ] || fault "odpctl wrote into the directory"

# ---- two programs ----

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
start first
first=$started
exec 8>"$tmp/first.in"
start second
second=$started
exec 9>"$tmp/second.in"
wait_line "$tmp/first" "$first"
wait_line "$tmp/second" "$second"

domain_sum() { od -An -tx8 -N 4096 "$UODP_DIR/domain" | cksum; }
before=$(domain_sum)
files=$(find "$UODP_DIR" | sort)
kill -STOP "$second" # nobody may have to wait for it
for sub in devices processes qps cqs mrs stats; do
	timeout 60 "$odpctl" $sub >"$tmp/$sub.txt" || fault "$sub: status $?"
	timeout 60 "$odpctl" $sub --json >"$tmp/$sub.json" || fault "$sub --json: status $?"
	timeout 60 "$odpctl" $sub --json --pid "$first" >"$tmp/$sub.first.json" ||
		fault "$sub --pid: status $?"
done
timeout 60 "$odpctl" >"$tmp/overview.txt" || fault "overview: status $?"
timeout 60 "$odpctl" --json >"$tmp/overview.json" || fault "overview --json: status $?"
kill -CONT "$second"
[ "$before" = "$(domain_sum)" ] || fault "odpctl claimed a slot, or wrote into the domain"
[ "$files" = "$(find "$UODP_DIR" | sort)" ] || fault "odpctl left files behind"
"$odpctl" caps --json >"$tmp/caps.json"
echo $? >"$tmp/caps.status"
"$odpctl" caps >"$tmp/caps.txt"
python3 "$here/check.py" "$tmp" || failed=1

# ---- one is killed, the other goes ----

kill -9 "$first"
wait "$first" 2>/dev/null
for sub in processes qps cqs mrs; do
	"$odpctl" $sub >"$tmp/out" 2>&1 || fault "$sub: status $? after a kill"
	! grep -qw "$first" "$tmp/out" || fault "$sub still shows the killed process"
	grep -qw "$second" "$tmp/out" || fault "$sub lost the other process"
	out=$("$odpctl" $sub --json --pid "$first") || fault "$sub --pid: status $? after a kill"
	[ "$out" = "[]" ] || fault "$sub --pid prints $out after a kill"
done
first=
exec 9>&-
wait "$second" || fault "the program that was looked at failed"
second=
out=$("$odpctl" processes --json) || fault "processes: status $? at the end"
[ "$out" = "[]" ] || fault "processes prints $out at the end"
"$odpctl" devices | grep -q '^uodp0 .* 0 .* 0 .*-$' || fault "devices: uodp0 is still open"

exit $failed
