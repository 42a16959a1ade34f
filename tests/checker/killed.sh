#!/bin/bash
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: killed.sh ODPFS UODPRUN CHECKER ROUNDS
# odpfs is killed (SIGKILL) at some point of a truncate or of transfers under way. All who
# used it come to an end, the transfers with a status, and a new one takes its place,
# in the same run directory.
set -u
uodprun=$2
checker=$3
rounds=$4
# shellcheck source=tests/odpfs/mount.sh
. "$(dirname "$0")/../odpfs/mount.sh"

for round in $(seq "$rounds"); do
	mount_odpfs -o uodp=require || exit 1
	policy=$(printf 'odp\npinned\nscratch\nrevoke\nlease\nkill\ndeny\n' | sed -n "$((round % 7 + 1))p")
	"$uodprun" "$checker" --seconds 60 --policy "$policy" "$back" "$mnt" >"$tmp/out" 2>&1 &
	user=$!
	sleep "$((RANDOM % 3)).$((RANDOM % 1000))"
	kill -9 "$daemon"
	wait "$daemon" 2>/dev/null
	daemon=
	for _ in $(seq 400); do
		kill -0 $user 2>/dev/null || break
		sleep 0.1
	done
	if kill -0 $user 2>/dev/null; then
		fault "$policy: odpfs is dead, and who used it goes on for ever"
		kill -9 $user
	fi
	wait $user && fault "$policy: the checker noticed nothing"
	if grep -q 'does not end\|ended with status\|is stuck' "$tmp/out"; then
		cat "$tmp/out"
		fault "$policy: a transfer or a process was left hanging"
	fi
	fusermount3 -u -z "$mnt" || fault "cannot unmount"
done
mount_odpfs -o uodp=require || exit 1
"$uodprun" "$checker" --seconds 2 --policy revoke,pinned "$back" "$mnt" || fault "checker"
unmount_odpfs
exit $failed
