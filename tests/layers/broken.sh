#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# layers.py finds a symbol, a header and a stale exception in a tree that breaks the rule
# on purpose, and nothing in one that keeps it. broken.sh LAYERS.PY CC
set -eu
check=$1 cc=$2
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir "$tree/low" "$tree/high"
printf '%s\n' '# lowest first' low high >"$tree/layers.txt"
echo 'int odp_low(void); int odp_low(void) { return 1; }' >"$tree/low/low.c"
printf '%s\n' '#include "high.h"' 'int odp_high(void) { return odp_low(); }' >"$tree/high/high.c"
echo 'int odp_low(void); int odp_high(void);' >"$tree/high/high.h"

fail()
{
	echo "$1"
	cat "$tree/out"
	exit 1
}

compile()
{
	for name in low high; do
		"$cc" -c -I"$tree/high" -o "$tree/$name/$name.c.o" "$tree/$name/$name.c"
	done
}

look()
{
	"$check" "$tree" "$@" "$tree/low/low.c.o" "$tree/high/high.c.o" >"$tree/out" 2>&1
}

says()
{
	grep -qxF "$1" "$tree/out" || fail "does not say: $1"
}

compile
look || fail "a tree that keeps the rule does not pass"
[ ! -s "$tree/out" ] || fail "a tree that keeps the rule is complained of"

printf '%s\n' '#include "high.h"' 'int odp_low(void) { return odp_high(); }' >"$tree/low/low.c"
compile
look && fail "an upward call and an upward include pass"
says "low/low.c uses odp_high of high/high.c, which lies above it"
says "low/low.c includes high/high.h, which lies above it"

printf '%s\n' 'low/low.c high/high.c odp_high' 'low/low.c high/high.h #include' >"$tree/known"
look --known "$tree/known" || fail "known exceptions do not pass"
echo 'low/low.c high/high.c odp_gone' >>"$tree/known"
look --known "$tree/known" && fail "a stale exception passes"
says "$tree/known: low/low.c high/high.c odp_gone: no longer so, delete the line"

# shellcheck disable=SC2016 # backquotes of Markdown
printf '%s\n' '| `high` | x |' '| `low` | x |' >"$tree/readme"
sed -i '$d' "$tree/known"
look --known "$tree/known" --readme "$tree/readme" && fail "another order in the README passes"
says "$tree/readme: its table has the layers high low, not low high"
