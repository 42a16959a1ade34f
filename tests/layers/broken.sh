#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# layers.py finds a symbol, a header, a name that is not offered and a stale exception in
# trees that break the rules on purpose, and nothing in one that keeps them.
# broken.sh LAYERS.PY CC
set -eu
check=$1 cc=$2
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir "$tree/low" "$tree/high"
printf '%s\n' '# lowest first' low high >"$tree/layers.txt"
echo 'int odp_low(void); int odp_low(void) { return 1; }' >"$tree/low/low.c"
echo 'int odp_low(void);' >"$tree/low/low.h"
printf '%s\n' '#include "high.h"' '#include "low.h"' 'int odp_high(void) { return odp_low(); }' >"$tree/high/high.c"
echo 'int odp_high(void);' >"$tree/high/high.h"

fail()
{
	echo "$1"
	cat "$tree/out"
	exit 1
}

compile()
{
	for name in low high; do
		"$cc" -c -I"$tree/low" -I"$tree/high" -o "$tree/$name/$name.c.o" "$tree/$name/$name.c"
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

mv "$tree/low/low.h" "$tree/low/low_priv.h"
sed -i 's/low.h/low_priv.h/' "$tree/high/high.c"
look && fail "what a layer keeps to itself is used, and that passes"
says "high/high.c uses odp_low of low/low.c, which no header of that layer offers"
says "high/high.c includes low/low_priv.h, which is its layer's own"
look --public "$tree/low/low_priv.h" && fail "an include of what a layer keeps to itself passes"
mv "$tree/low/low_priv.h" "$tree/low/low.h"
sed -i 's/low_priv.h/low.h/' "$tree/high/high.c"

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
