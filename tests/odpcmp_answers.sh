#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: odpcmp_answers.sh [WRAPPER...] ODPCMP [ODPCMP-OPTION]...
#
# uodp0 must answer as rdma_rxe did in a virtual machine: its answers are
# recorded in rxe/answers.json (by rxe/judge.sh --record).
# Anything else fails, a cell that cannot be determined included, but for what
# rxe/differences.json accepts.
here=$(cd "$(dirname "$0")" && pwd)
[ $# -gt 0 ] || { echo "usage: $0 [WRAPPER...] ODPCMP [ODPCMP-OPTION]..." >&2; exit 2; }
exec "$@" -d uodp0 --all --jobs 4 --timeout 60 --compare "$here/rxe/answers.json" \
	--accept "$here/rxe/differences.json"
