#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: odpcmp_answers.sh [WRAPPER...] ODPCMP [ODPCMP-OPTION]...
#
# uodp0 must answer as rdma_rxe did in a virtual machine: its answers are recorded in
# rxe/answers/VERSION.json, for each kernel (by rxe/judge.sh --record). Cells that agree
# with an older kernel alone are listed; one that agrees with none fails, and one that
# cannot be determined, but for what rxe/differences.json accepts.
here=$(cd "$(dirname "$0")" && pwd)
[ $# -gt 0 ] || { echo "usage: $0 [WRAPPER...] ODPCMP [ODPCMP-OPTION]..." >&2; exit 2; }
compare=
for file in $(printf '%s\n' "$here"/rxe/answers/*.json | sort -rV); do
	compare="$compare --compare $file"
done
# shellcheck disable=SC2086
exec "$@" -d uodp0 --all --jobs 4 --timeout 60 $compare --accept "$here/rxe/differences.json"
