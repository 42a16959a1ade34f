#!/bin/bash
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# valgrind.sh UODPRUN PROGRAM: memcheck finds nothing in PROGRAM, nor in two processes
# that talk to each other, and a stopped program ends.
set -u
uodprun=$1
program=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

for tool in valgrind ibv_rc_pingpong; do
	if ! command -v $tool >/dev/null; then
		echo "skipped: there is no $tool"
		exit 77
	fi
done
if ! echo '#include <valgrind/memcheck.h>' | gcc -fsyntax-only -x c - 2>/dev/null; then
	echo "skipped: built without valgrind's header"
	exit 77
fi

check() {
	timeout -k 1 200 "$uodprun" valgrind -q --leak-check=summary --error-exitcode=99 "$@"
}

fail() {
	echo "$1"
	cat "$dir"/*
	exit 1
}

check "$program" >"$dir/one" 2>&1 || fail "$program: exit status $?"
if grep -q '^==' "$dir/one"; then
	fail "$program: there is a report"
fi

for how in "" "-o"; do
	# shellcheck disable=SC2086 # none or one
	check ibv_rc_pingpong -d uodp0 -g 1 -p 18611 -n 20 $how >"$dir/server" 2>&1 &
	server=$!
	for _ in $(seq 100); do
		# shellcheck disable=SC2086
		check ibv_rc_pingpong -d uodp0 -g 1 -p 18611 -n 20 $how localhost \
			>"$dir/client" 2>&1 && break
		grep -q "Couldn't connect" "$dir/client" || fail "client $how"
		sleep 0.1
	done
	wait $server || fail "server $how: exit status $?"
done

# SIGTERM in the middle of it.
"$uodprun" valgrind -q ibv_rc_pingpong -d uodp0 -g 1 -p 18612 >"$dir/ended" 2>&1 &
waiting=$!
sleep 3
kill $waiting
for _ in $(seq 100); do
	kill -0 $waiting 2>/dev/null || exit 0
	sleep 0.1
done
kill -KILL $waiting
fail "SIGTERM does not end it"
