#!/bin/bash
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: guest-judge.sh [-j JOBS] ODPCMP UODPRUN [DMABUF]
#
# In the virtual machine: that uodprun leaves rxe0 as it is, and that MRs of real
# dma-bufs work, which is said on standard error; and the whole matrix of rxe0 as JSON
# on standard output. Status 1: a check failed; 3: only cells of rxe0 are undetermined.
set -euo pipefail
jobs=4
[ "$1" != -j ] || { jobs=$2; shift 2; }
odpcmp=$1
uodprun=$2
dmabuf=${3:-}
dir=$(mktemp -d)
export UODP_DIR=$dir/run
failed=0
undetermined=0

check() { # WHAT COMMAND...
	local what=$1

	shift
	if "$@" >"$dir/log" 2>&1; then
		echo "ok: $what" >&2
	else
		echo "FAILED: $what" >&2
		cat "$dir/log" >&2
		failed=1
	fi
}

lists() { # NAME: among the devices that standard input lists
	awk -v name="$1" '$1 == name { found = 1 } END { exit !found }'
}

both_listed() {
	"$uodprun" ibv_devices | tee "$dir/devices"
	lists rxe0 <"$dir/devices" && lists uodp0 <"$dir/devices"
}

only_uodp_listed() {
	UODP_ONLY=1 "$uodprun" ibv_devices | tee "$dir/devices"
	lists uodp0 <"$dir/devices" && ! lists rxe0 <"$dir/devices"
}

few() { "$odpcmp" -d rxe0 --kind=anon,memfd --event=none,dontneed,truncate-grow "$@"; }

same_under_uodprun() {
	few --json >"$dir/plain.json"
	"$uodprun" "$odpcmp" -d rxe0 --kind=anon,memfd --event=none,dontneed,truncate-grow \
		--compare="$dir/plain.json"
}

check "uodprun lists rxe0 and uodp0" both_listed
check "UODP_ONLY=1 hides rxe0" only_uodp_listed
check "rxe0 answers the same under uodprun" same_under_uodprun
if [ -n "$dmabuf" ] && [ -c /dev/udmabuf ]; then
	check "a real dma-buf" "$uodprun" "$dmabuf" udmabuf
fi
"$odpcmp" -d rxe0 --all --jobs="$jobs" --timeout=60 --json || undetermined=3
[ $failed -eq 0 ] || exit $failed
exit $undetermined
