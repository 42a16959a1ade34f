#!/bin/bash
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# sanitized.sh UODPRUN SOURCE CC LIBS... -- FLAG...: a program built with a sanitizer
# starts under uodprun and ends, whatever pages of its registered memory are missing;
# what it loses is found, and nothing of ours.
set -eu
uodprun=$1
source=$2
cc=$3
shift 3
libs=()
while [ "$1" != -- ]; do
	libs+=("$1")
	shift
done
shift

if ! command -v "$cc" >/dev/null; then
	echo "skipped: there is no $cc"
	exit 77
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
echo 'int main(void) { return 0; }' >"$dir/none.c"
if ! "$cc" "$@" "$dir/none.c" -o "$dir/none" || ! "$dir/none"; then
	echo "skipped: $cc $* makes no program that runs"
	exit 77
fi
"$cc" -g "$@" "$source" "${libs[@]}" -o "$dir/prog"

fail() {
	echo "$*"
	cat "$dir/out"
	exit 1
}

unset UODP_PRELOAD_FIRST
for pages in untouched discarded; do
	for state in kept deregistered closed; do
		timeout -k 1 60 "$uodprun" "$dir/prog" "$pages" "$state" >"$dir/out" 2>&1 ||
			fail "$pages, $state: exit status $?"
		[ ! -s "$dir/out" ] || fail "$pages, $state: there is a report"
	done
done
if timeout -k 1 60 "$uodprun" "$dir/prog" discarded kept lost >"$dir/out" 2>&1; then
	fail "the lost block was not found"
fi
grep -q 'SUMMARY: .* 77 byte(s) leaked in 1 allocation(s)' "$dir/out" || fail "another report"
