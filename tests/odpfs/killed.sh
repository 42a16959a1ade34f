#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: killed.sh ODPFS KILLED [ROUNDS]
# odpfs is killed with dirty pages, and requests of every sort under way: it ends, and so
# do its users when they are killed.
set -u
killed=$2
rounds=${3:-48}
# shellcheck source=tests/odpfs/mount.sh
. "$(dirname "$0")/mount.sh"

state() { # PID: as /proc has it; nothing if it is gone, or only waits for its parent
	sed -n 's/^State:[[:space:]]*\([^Z[:space:]]\).*/\1/p' "/proc/$1/status" 2>/dev/null
}
ended() { # PID
	[ -z "$(state "$1")" ]
}
hung() { # NAME PID: say where it is, and let it go
	fault "round $round: $1 is in state $(state "$2") a minute after odpfs was killed"
	for task in /proc/"$2"/task/*; do
		sed -n '1,4p' "$task/stack" 2>/dev/null
	done
	umount -f "$mnt" 2>/dev/null
}

round=0
while [ $round -lt "$rounds" ] && [ $failed -eq 0 ]; do
	round=$((round + 1))
	mount_odpfs -o policy=odp || exit 1
	inside=$(pgrep -P "$daemon")
	: >"$tmp/hello"
	"$killed" "$mnt/file" >"$tmp/hello" 2>"$tmp/user" &
	user=$!
	await test -s "$tmp/hello" || { fault "no user: $(cat "$tmp/user")"; exit 1; }
	sleep 0.$((round % 3 + 1))
	kill -0 $user || fault "the user has ended: $(cat "$tmp/user")"
	kill -9 "$daemon"
	await ended "$daemon" || hung odpfs "$daemon"
	kill -9 $user 2>/dev/null # it may go on for as long as it has all pages
	await ended "$user" || hung "a user" "$user"
	await ended "$inside" || hung "odpfs-inside" "$inside"
	wait "$daemon" "$user" 2>/dev/null
	daemon=
	fusermount3 -u -z "$mnt" || fault "cannot unmount"
	rm -f "$back/file"
done
echo "$round rounds"
exit $failed
