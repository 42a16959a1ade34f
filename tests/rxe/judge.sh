#!/bin/bash
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: judge.sh [--record] ODPCMP
#
# Asks rdma_rxe in a virtual machine again whether answers.json is true of it;
# with --record, writes what it says there. Skipped (77) unless the kernel is in
# the cache or UODP_TEST_RXE=1 says to bring it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

record=
[ "${1:-}" != --record ] || { record=1; shift; }
[ $# -eq 1 ] || die "usage: judge.sh [--record] ODPCMP"
odpcmp=$(realpath "$1")

if [ "${UODP_TEST_RXE:-0}" != 1 ] && ! rxe_version >/dev/null; then
	echo "skipped: no kernel in $RXE_CACHE; UODP_TEST_RXE=1 brings one"
	exit 77
fi
if [ -n "$record" ]; then
	"$here/run-in-vm.sh" "$odpcmp" -d rxe0 --json >"$here/answers.json.new"
	mv "$here/answers.json.new" "$here/answers.json"
else
	"$here/run-in-vm.sh" "$odpcmp" -d rxe0 --compare "$here/answers.json"
fi
