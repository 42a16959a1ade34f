#!/bin/bash
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# dumped.sh UODPRUN DUMPED: registered memory is in core files, the kernel's and gcore's,
# as private memory is; what the program has left out is not, nor are our tables.
set -u
uodprun=$1
dumped=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1

command -v gdb >/dev/null || { echo "skipped: there is no gdb"; exit 77; }
ulimit -c unlimited || { echo "skipped: no core files here"; exit 77; }

# value CORE EXPRESSION; none where gdb has nothing to show
value() {
	gdb -batch -ex 'echo \nseen=' -ex "output (int)$2" "$dumped" "$1" 2>/dev/null | sed -n 's/^seen=//p'
}

status=0
check() {
	local seen

	seen=$(value "$2" 'kept[0]'),$(value "$2" 'kept[5000]'),$(value "$2" 'left_out[0]')
	seen=$seen,$(value "$2" 'untouched[0]')
	case $seen in
	107,119,,0 | 107,119,0,0) ;; # as it was filled, stored to, left out, and never touched
	*)
		echo "$1: $seen"
		status=1
		;;
	esac
	if [ "$(du -m "$2" | cut -f1)" -gt 64 ]; then
		echo "$1: $(du -m "$2") MiB"
		status=1
	fi
}

for kind in pinned odp; do
	rm -f core*
	"$uodprun" "$dumped" abort $kind >/dev/null 2>&1
	set -- core*
	if [ "$(cat /proc/sys/kernel/core_pattern)" = core ]; then
		check "core, $kind" "$1"
	fi
done

# Not on demand: gdb cannot read pages that are missing, uodp(7).
if command -v gcore >/dev/null; then
	"$uodprun" "$dumped" wait pinned >ready &
	pid=$!
	for _ in $(seq 100); do
		[ -s ready ] && break
		sleep 0.1
	done
	gcore -o gcore $pid >gcore.out 2>&1 || cat gcore.out
	kill -KILL $pid
	wait $pid 2>/dev/null
	check "gcore" gcore.$pid
fi
exit $status
