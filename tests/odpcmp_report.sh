#!/bin/bash
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: odpcmp_report.sh UODPRUN ODPCMP
# Each event under traffic on uodp0: nothing fails that must not, and the page
# has its plots, that of page faults included.
set -u
uodprun=$1
odpcmp=$2
dir=$(mktemp -d "${TMPDIR:-/tmp}/odpcmp-test.XXXXXX")
trap 'rm -rf "$dir"' EXIT
failed=0

fail() {
	echo "$*"
	[ ! -e "$dir/out" ] || cat "$dir/out"
	failed=1
}

# traffic WHAT FAULTS: FAULTS is a pattern of what the on-demand region counts.
traffic() {
	"$uodprun" "$odpcmp" -d uodp0 --kind=memfd --event=none --op=read --timeout=60 \
		--traffic="$1" --traffic-ms=1000 --report="$dir/page.html" >"$dir/out" 2>&1 ||
		fail "$1: exit status $?"
	grep -qE '^pinned .* events, .*; 0 errors' "$dir/out" ||
		fail "$1: transfers to pinned memory failed"
	grep -qE "^odp .* events, .*; $2 faults" "$dir/out" || fail "$1: unexpected faults"
	grep -q '<svg' "$dir/page.html" || fail "$1: no plot"
	grep -q 'throughput, MB/s' "$dir/page.html" || fail "$1: no plot of throughput"
}

traffic anon:dontneed '[1-9][0-9]*'
grep -qE '^odp .*; 0 errors' "$dir/out" || fail "transfers failed although the memory is there"
grep -q 'page faults of the region' "$dir/page.html" || fail "no plot of page faults"
traffic memfd:punch '[0-9]+'
traffic memfd:truncate-grow '[0-9]+'
exit $failed
