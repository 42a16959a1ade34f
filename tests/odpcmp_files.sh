#!/bin/bash
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: odpcmp_files.sh ODPCMP
# What odpcmp does without a device: usage, saved answers, comparisons.
set -u
odpcmp=$1
here=$(cd "$(dirname "$0")" && pwd)
answers=$here/rxe/answers/7.3.4.json
older=$here/rxe/answers/7.2.12.json
differences=$here/rxe/differences.json
dir=$(mktemp -d "${TMPDIR:-/tmp}/odpcmp-test.XXXXXX")
trap 'rm -rf "$dir"' EXIT
failed=0

# expect STATUS PATTERN ARGUMENT...: PATTERN must be in what odpcmp prints.
expect() {
	local status=$1 pattern=$2 output got

	shift 2
	output=$("$odpcmp" "$@" 2>&1)
	got=$?
	if [ $got -ne "$status" ] || ! grep -qE -- "$pattern" <<<"$output"; then
		printf 'odpcmp %s\n  exit %d, expected %d with "%s" in:\n%s\n' "$*" $got \
			"$status" "$pattern" "$output"
		failed=1
	fi
}

expect 0 '^Usage: odpcmp' --help
expect 0 '^odpcmp [0-9]' --version
expect 0 '^\* truncate-grow ' --list
expect 0 '^  hugetlb ' --list
expect 2 "'bogus' is none of anon," --kind=anon,bogus
expect 2 "'' is none of" --event=
expect 2 "'sideways' is none of read, write, send, recv, atomic" --op sideways
expect 2 'is no number from 1 to 255' -i 0
expect 2 'is no number from 0 to 65535' -g 1x
expect 2 'is no number from 1 to 64' -j 0
expect 2 "'memfd' is none of anon:dontneed," --traffic=memfd
expect 2 'needs a device' --traffic --from "$answers"
expect 2 'needs --compare' --accept "$differences"
expect 2 'Try' --no-such-option
expect 2 "'stray' is no option" stray
expect 2 '--lease-ms needs --fs' --lease-ms=50
expect 2 'kinds of memory that are files' --fs=odpfs --kind=anon,memfd

expect 0 '^[0-9]+ of [0-9]+ rows differ between pinned and ODP' --from "$answers"
expect 0 '^  anon +truncate +n/a +n/a +n/a +n/a$' --from "$answers" --kind anon --event truncate \
	--op read,write
expect 0 '^\* memfd +punch +old +not visible +new +visible$' --from "$answers" --kind memfd \
	--op read,write
expect 0 '^\* memfd +punch +old, not visible +new, visible$' --from "$answers" --op atomic
expect 0 '^3302 cells .*: 0 differ$' --from "$answers" --compare "$answers"

"$odpcmp" --from "$answers" --json >"$dir/again.json" || failed=1
diff <(grep -v '"odpcmp":' "$answers") <(grep -v '"odpcmp":' "$dir/again.json") || failed=1
sed '/"memfd", "event": "truncate", "mr": "odp", "op": "read"/s/REM_ACCESS_ERR"/old"/' \
	"$answers" >"$dir/other.json"
expect 1 '^differs: memfd truncate odp read: REM_ACCESS_ERR here, old on rxe0$' \
	--from "$answers" --compare "$dir/other.json"
expect 1 '^3302 cells .*: 1 differ$' --from "$answers" --compare "$dir/other.json"
expect 0 ': 0 differ$' --from "$answers" --op write --compare "$dir/other.json"
expect 1 'no cell in common' --from "$answers" --kind anon --event punch --compare "$answers"

# Several kernels: one that agrees will do, and what agrees with an older one is said.
expect 1 '^differs: uffd dontneed-zero odp read: zeros here, REM_ACCESS_ERR on rxe0$' \
	--from "$answers" --compare "$older"
expect 0 ': 0 differ$' --from "$answers" --compare "$answers" --compare "$older"
expect 0 ': 0 differ, 5 agree with a later file alone$' --from "$older" --compare "$answers" \
	--compare "$older"
expect 0 '^agrees with a later file: uffd dontneed-zero odp read: REM_ACCESS_ERR here, zeros on' \
	--from "$older" --compare "$answers" --compare "$older"
expect 1 '^differs: memfd truncate odp read: old here, REM_ACCESS_ERR on rxe0 \(kernel 7.3.4' \
	--from "$dir/other.json" --compare "$answers" --compare "$older"
expect 1 'in common' --from "$answers" --kind anon --event punch --compare "$answers" \
	--compare "$older"
expect 1 'no answers of format|No such file' --from "$answers" --compare "$answers" \
	--compare "$dir/none.json"

# Beside each other.
expect 2 '--side-by-side needs --compare' --from "$answers" --side-by-side
expect 1 '^\* uffd +dontneed-zero +odp +read +zeros +REM_ACCESS_ERR$' --from "$answers" \
	--compare "$older" --side-by-side
expect 0 '^  uffd +none +odp +read +new +new +new$' --from "$answers" --compare "$older" \
	--compare "$answers" --kind uffd --event none --side-by-side --op read
expect 1 '^  memory +event +region +op +rxe0, 7.3.4[^ ]* +rxe0, 7.2.12' --from "$answers" \
	--compare "$older" --side-by-side
expect 1 '^5 of 3302 cells differ between these runs' --from "$answers" --compare "$older" \
	--side-by-side
"$odpcmp" --from "$answers" --compare "$older" --side-by-side --json >"$dir/beside.json" 2>/dev/null
python3 - "$dir/beside.json" <<'EOF' || failed=1
import json, sys
page = json.load(open(sys.argv[1]))
assert [run["kernel"][:5] for run in page["runs"]] == ["7.3.4", "7.2.1"], page["runs"]
differ = [cell["answers"] for cell in page["cells"] if cell["differs"]]
assert len(page["cells"]) == 3302 and len(differ) == 5, len(differ)
assert ["zeros", "REM_ACCESS_ERR"] in differ, differ
EOF

# What may differ.
cat >"$dir/accept.json" <<'EOF'
[{"kind": "anon,memfd", "event": "truncate", "mr": "odp", "op": "*", "here": "REM_ACCESS_ERR",
  "there": "old", "reason": "for a test"},
 {"kind": "*", "event": "vfork", "mr": "*", "op": "read", "reason": "for no reason"}]
EOF
expect 0 ': 0 differ, 1 more as accepted$' --from "$answers" --compare "$dir/other.json" \
	--accept "$dir/accept.json"
expect 0 '^accepted, 1 cells: .*: for a test$' --from "$answers" --compare "$dir/other.json" \
	--accept "$dir/accept.json"
expect 0 '^accepted, but nothing differs so: .*: for no reason$' --from "$answers" \
	--compare "$dir/other.json" --accept "$dir/accept.json"
sed 's/"there": "old"/"there": "new"/' "$dir/accept.json" >"$dir/else.json"
expect 1 ': 1 differ$' --from "$answers" --compare "$dir/other.json" --accept "$dir/else.json"
echo '[{"kind": "anon"}]' >"$dir/half.json"
expect 1 'entry 1 lacks' --from "$answers" --compare "$answers" --accept "$dir/half.json"
expect 1 'not an array' --from "$answers" --compare "$answers" --accept "$answers"
expect 1 'No such file' --from "$answers" --compare "$answers" --accept "$dir/none.json"

# A page that stands alone.
expect 0 '0 differ, 1 more' --from "$answers" --compare "$dir/other.json" \
	--accept "$dir/accept.json" --report "$dir/page.html"
grep -q 'for a test' "$dir/page.html" || { echo "the page lacks the reason"; failed=1; }
! grep -qE '(src|href)=|url\(|@import|https?:' "$dir/page.html" ||
	{ echo "the page needs something from elsewhere"; failed=1; }
expect 1 'No such file' --from "$answers" --report "$dir/none/page.html"

sed 's/"state": "ok"/"state": "failed"/' "$answers" >"$dir/failed.json"
expect 1 'cells could not be determined' --from "$dir/failed.json"

expect 1 'No such file' --from "$dir/none.json"
expect 1 'not JSON' --compare /etc/passwd
head -c 2000 "$answers" >"$dir/cut.json"
expect 1 'not JSON' --from "$dir/cut.json"
echo '{"format": 1, "environment": {}, "cells": [1, null, {"kind": 3}]}' >"$dir/odd.json"
expect 1 'holds no answers of format 1' --from "$dir/odd.json"
echo '[]' >"$dir/array.json"
expect 1 'holds no answers' --from "$dir/array.json"
sed 's/"format": 1/"format": 2/' "$answers" >"$dir/future.json"
expect 1 'holds no answers of format 1' --from "$dir/future.json"
exit $failed
