#!/bin/bash
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: judge.sh [--record] [--report FILE.html] ODPCMP UODPRUN [DMABUF]
#
# The judge: boots a kernel with rdma_rxe, asks odpcmp there for the whole matrix
# of rxe0, asks the same program for uodp0 here, and compares cell by cell: with what
# rxe0 says now, and with what it said on the kernels of answers/*.json. What may
# differ stands in differences.json. DMABUF, a test of dma-bufs, runs in the machine
# too: that kernel makes real ones.
#
# Fails only for what is ours: a cell in which uodp0 agrees with no kernel, and no
# reason is given; a check of uodprun there. A kernel that is new, or answers otherwise
# than its record has it, is reported. --record writes down what it says
# (answers/VERSION.json), for tests that have no virtual machine.
#
# UODP_TEST_RXE says how much is wanted of the machine:
#   unset    judge if the kernel is in the cache, else skip (77)
#   1        bring the kernel; if there is none to be had (no mirror, no such package, it
#            does not boot), say so and skip: no fault of the tree under test
#   require  the same, and that is a failure
#   0        skip
# UODP_RXE_LOG names a file to which all that is said is written, too.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

write=
report=()
while :; do
	case ${1:-} in
	--record) write=1 ;;
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

wanted=${UODP_TEST_RXE:-cached}
if [ -n "${UODP_RXE_LOG:-}" ]; then
	exec > >(tee "$UODP_RXE_LOG")
fi

not_judged() { # WHY...
	echo "not judged by a live rdma_rxe: $*"
	[ "$wanted" != require ] || exit 1
	exit 77
}

[ "$wanted" != 0 ] || not_judged "UODP_TEST_RXE=0"
if [ "$wanted" = cached ] && ! rxe_version >/dev/null; then
	not_judged "no kernel in $RXE_CACHE; UODP_TEST_RXE=1 brings one"
fi
dir=$(mktemp -d "${TMPDIR:-/tmp}/uodp-judge.XXXXXX")
trap 'rm -rf "$dir"' EXIT

# ---- what rxe0 says ----

export UODP_RXE_TIMEOUT=${UODP_RXE_TIMEOUT:-540}
status=0
"$here/run-in-vm.sh" "$here/guest-judge.sh" -j 6 "$odpcmp" "$uodprun" ${dmabuf:+"$dmabuf"} \
	>"$dir/rxe0.json" 2> >(tee "$dir/vm.log" >&2) ||
	status=$?
case $status in
0) ;;
3) echo "rxe0 left cells undetermined:" && "$odpcmp" --from="$dir/rxe0.json" | tail -n 15 ;;
124) not_judged "the virtual machine was not done in $UODP_RXE_TIMEOUT s" ;;
125) not_judged "$(tail -n 1 "$dir/vm.log")" ;;
*)
	echo "judge.sh: a check in the virtual machine failed ($status), see above" >&2
	exit 1
	;;
esac
kernel=$(sed -n 's/.*"kernel": "\([^"]*\)".*/\1/p;T;q' "$dir/rxe0.json")
record=$here/answers/$(rxe_plain_version "$kernel").json
echo "rxe0 of kernel $kernel:"
report_live() {
	local with=$record

	[ -s "$with" ] || with=$(rxe_records "$here" | head -n 1)
	[ -s "$record" ] ||
		echo "no record of this kernel (./build.sh rxe --record makes one); against ${with##*/}:"
	if ! "$odpcmp" --from="$dir/rxe0.json" --compare="$with" >"$dir/log"; then
		echo "not as ${with##*/} has it (reported, no failure):"
		grep -E '^(differs|[0-9]+ cells)' "$dir/log" || true
	else
		echo "as ${with##*/} has it"
	fi
}
report_live
if [ -n "$write" ]; then
	cp "$dir/rxe0.json" "$record"
	echo "recorded: $record"
fi

# ---- what uodp0 says ----

compare=("--compare=$dir/rxe0.json")
while read -r file; do
	compare+=("--compare=$file")
done < <(rxe_records "$here")
status=0
"$uodprun" "$odpcmp" -d uodp0 --all --jobs=4 --timeout=60 "${compare[@]}" \
	--accept="$here/differences.json" "${report[@]}" >"$dir/table" || status=1
[ "$status" -eq 0 ] || grep -A 12 'could not be determined' "$dir/table" || true
grep -E '^(differs|agrees|accepted|[0-9]+ cells)' "$dir/table" || true
exit $status
