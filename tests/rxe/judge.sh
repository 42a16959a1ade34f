#!/bin/bash
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: judge.sh [--record] [--report FILE.html] ODPCMP UODPRUN [DMABUF]
#
# The judge: boots a kernel with rdma_rxe, asks odpcmp there for the whole matrix
# of rxe0, asks the same program for uodp0 here, and compares cell by cell. What
# may differ stands in differences.json. With --record, writes down what rxe0
# said (answers.json), for tests that have no virtual machine. DMABUF, a test of
# dma-bufs, runs there too: that kernel makes real ones.
#
# Skipped (77) unless the kernel is in the cache or UODP_TEST_RXE=1 says to bring
# it; with that, whatever is missing is a failure.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

record=
report=()
while :; do
	case ${1:-} in
	--record) record=1 ;;
	--report) report=("--report=$2"); shift ;;
	*) break ;;
	esac
	shift
done
[ $# -eq 2 ] || [ $# -eq 3 ] ||
	die "usage: judge.sh [--record] [--report FILE.html] ODPCMP UODPRUN [DMABUF]"
odpcmp=$(realpath "$1")
uodprun=$(realpath "$2")
dmabuf=${3:+$(realpath "$3")}

if [ "${UODP_TEST_RXE:-}" = 0 ]; then
	echo "skipped: UODP_TEST_RXE=0"
	exit 77
fi
if [ "${UODP_TEST_RXE:-0}" != 1 ] && ! rxe_version >/dev/null; then
	echo "skipped: no kernel in $RXE_CACHE; UODP_TEST_RXE=1 brings one"
	exit 77
fi
dir=$(mktemp -d "${TMPDIR:-/tmp}/uodp-judge.XXXXXX")
trap 'rm -rf "$dir"' EXIT

export UODP_RXE_TIMEOUT=${UODP_RXE_TIMEOUT:-540}
status=0
"$here/run-in-vm.sh" "$here/guest-judge.sh" -j 6 "$odpcmp" "$uodprun" ${dmabuf:+"$dmabuf"} \
	>"$dir/rxe0.json" ||
	status=$?
if [ "$status" -eq 125 ] && [ "${UODP_TEST_RXE:-0}" != 1 ]; then
	echo "skipped: no virtual machine (see above); with UODP_TEST_RXE=1 that is a failure"
	exit 77
fi
if [ "$status" -ne 0 ]; then
	[ ! -s "$dir/rxe0.json" ] || "$odpcmp" --from="$dir/rxe0.json" | tail -n 15
	echo "judge.sh: the virtual machine's part ended with $status" >&2
	exit 1
fi
if [ -n "$record" ]; then
	cp "$dir/rxe0.json" "$here/answers.json"
elif ! "$odpcmp" --from="$dir/rxe0.json" --compare="$here/answers.json" >"$dir/log"; then
	# Another kernel may have changed; what counts is what it says now.
	echo "rxe0 no longer says what answers.json has (judge.sh --record writes it anew):"
	grep -E '^differs|^[0-9]+ cells' "$dir/log" || true
fi

"$uodprun" "$odpcmp" -d uodp0 --all --jobs=4 --timeout=60 --compare="$dir/rxe0.json" \
	--accept="$here/differences.json" "${report[@]}" >"$dir/table" || status=1
[ "$status" -eq 0 ] || grep -A 12 'could not be determined' "$dir/table" || true
grep -E '^(differs|accepted|[0-9]+ cells)' "$dir/table" || true
exit $status
