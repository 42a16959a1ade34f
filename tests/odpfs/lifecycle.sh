#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: lifecycle.sh ODPFS CHURN
# Options, mounting, unmounting, and being killed.
set -u
churn=$2
# shellcheck source=tests/odpfs/mount.sh
. "$(dirname "$0")/mount.sh"

# ---- options ----

refused() { # STATUS ARGUMENT...: one that is refused, with a reason
	wanted=$1
	shift
	"$odpfs" "$@" >"$tmp/out" 2>&1
	status=$?
	[ $status -eq "$wanted" ] || fault "status $status, not $wanted: odpfs $*"
	[ -s "$tmp/out" ] || fault "not a word: odpfs $*"
	is_mounted "$mnt" && fault "mounted: odpfs $*"
}
refused 2
refused 2 "$back"
refused 2 "$back" "$mnt" "$mnt"
refused 2 -o nonsense "$back" "$mnt"
refused 2 -o policy=soft "$back" "$mnt"
refused 2 -o lease_ms=0 "$back" "$mnt"
refused 2 -o lease_ms=soon "$back" "$mnt"
refused 2 -o timeout=-1 "$back" "$mnt"
refused 2 -o uodp=perhaps "$back" "$mnt"
refused 2 -s "$back" "$mnt"
refused 1 "$tmp/nothing" "$mnt"
refused 1 "$back" "$tmp/nothing"
refused 1 /dev/null "$mnt"
mkdir "$back/below"
refused 1 "$back" "$back/below"
rmdir "$back/below"
for option in --help -h --version -V; do
	out=$("$odpfs" $option) || fault "$option: status $?"
	echo "$out" | grep -q odpfs || fault "$option prints: $out"
done

# ---- in the background ----

"$odpfs" -o policy=revoke,lease_ms=100 "$back" "$mnt" || fault "in the background: status $?"
is_mounted "$mnt" || fault "not mounted when odpfs has returned"
echo one >"$mnt/one" || fault "cannot write"
fusermount3 -u "$mnt" || fault "fusermount3 -u failed"
[ "$(cat "$back/one")" = one ] || fault "unmounted, and not written"

# ---- no run directory ----

UODP_DIR=/dev/null/none refused 1 -o uodp=require "$back" "$mnt"
UODP_DIR=/dev/null/none mount_odpfs && {
	grep -q "plain file system" "$tmp/messages" || fault "no word of there being no regions"
	[ "$(cat "$mnt/one")" = one ] || fault "cannot read without a run directory"
	unmount_odpfs
}

# ---- a policy that is named is kept, or there is no mount ----

refused 2 -o policy=deny,uodp=off "$back" "$mnt"
refused 2 -o policy=deny,uodp=auto "$back" "$mnt"
UODP_DIR=/dev/null/none refused 1 -o policy=deny "$back" "$mnt"
grep -q "policy=deny" "$tmp/out" || fault "no word of the policy: $(cat "$tmp/out")"

# ---- one odpfs a backing directory, nor one above or below ----

busy() { # DIRECTORY
	mkdir -p "$tmp/other"
	"$odpfs" "$1" "$tmp/other" >"$tmp/out" 2>&1 && fault "mounted twice: $1"
	is_mounted "$tmp/other" && fault "mounted: $1"
	grep -q "locked by process $2 (odpfs)" "$tmp/out" || fault "$1: who has it? $(cat "$tmp/out")"
}
mkdir "$back/below"
mount_odpfs && {
	busy "$back" "$daemon"
	busy "$back/below" "$daemon"
	unmount_odpfs
}
whole=$back
back=$back/below
mount_odpfs && {
	busy "$whole" "$daemon"
	unmount_odpfs
}
back=$whole
rmdir "$back/below"
# In the background it is the process that stays.
"$odpfs" "$back" "$mnt" || fault "in the background: status $?"
busy "$back" "[0-9][0-9]*"
held=$(sed -n 's/.*process \([0-9]*\) .*/\1/p' "$tmp/out")
kill -0 "${held:-0}" || fault "the lock is said to be of process $held"
fusermount3 -u "$mnt" || fault "fusermount3 -u failed"

# ---- unmounted, and not quite ended, when the next one gets its device number ----

mount_odpfs -o uodp=require && {
	ended=$daemon
	daemon=
	kill -STOP "$ended"
	fusermount3 -u "$mnt" || fault "cannot unmount a stopped odpfs"
	"$odpfs" -f -o uodp=require "$back" "$mnt" 2>"$tmp/messages" &
	daemon=$!
	sleep 1
	kill -CONT "$ended"
	wait "$ended" || fault "unmounted while it was stopped: status $?"
	await answers || fault "kept out by one that has been unmounted: $(cat "$tmp/messages")"
	unmount_odpfs
}

# ---- SIGTERM: at once if nobody uses it, else when that gets too long ----

mount_odpfs && {
	dd if=/dev/urandom of="$mnt/data" bs=64k count=64 2>/dev/null
	cp "$mnt/data" "$tmp/data"
	kill -TERM "$daemon"
	wait "$daemon" || fault "SIGTERM: status $?: $(cat "$tmp/messages")"
	daemon=
	is_mounted "$mnt" && fault "SIGTERM: still mounted"
	cmp "$tmp/data" "$back/data" || fault "SIGTERM: not written"
}
mount_odpfs && {
	exec 8<"$mnt/data"
	kill -INT "$daemon"
	wait "$daemon" || fault "SIGINT with an open file: status $?"
	daemon=
	is_mounted "$mnt" && fault "SIGINT with an open file: still mounted"
	exec 8<&-
}

# ---- killed: users get errors, and the next one finds what was synced ----

mount_odpfs && {
	exec 8>"$mnt/synced"
	echo synced >&8
	sync "$mnt/synced"
	kill -9 "$daemon"
	wait "$daemon" 2>/dev/null
	daemon=
	ls "$mnt" >/dev/null 2>&1 && fault "a killed odpfs answers"
	fusermount3 -u "$mnt" 2>"$tmp/out" && fault "unmounted with a file open"
	grep -q busy "$tmp/out" || fault "with a file open: $(cat "$tmp/out")"
	fusermount3 -u -z "$mnt" || fault "cannot unmount a killed odpfs"
	exec 8>&-
	[ "$(cat "$back/synced")" = synced ] || fault "synced, and lost"
}
mount_odpfs && [ "$(cat "$mnt/synced")" = synced ] || fault "not there after a restart"

# ---- its users are killed, at any point ----

no_churn() {
	[ -z "$(find "/proc/$daemon/fd" -lname "$back/churn-*" 2>/dev/null)" ]
}

for round in 1 2 3 4 5 6; do
	"$churn" --seconds=60 "$mnt" >"$tmp/churn" &
	pid=$!
	sleep 0.$round
	kill -9 $pid || fault "churn ended: $(cat "$tmp/churn")"
	wait $pid 2>/dev/null
	# The kernel keeps an EINTR of theirs, from sending a file's times, for whoever
	# syncs that file next.
	rm -f "$mnt"/churn-*
done
"$churn" --operations=20 "$mnt" >"$tmp/churn" || fault "after kills: $(cat "$tmp/churn")"
rm "$mnt"/churn-* || fault "cannot remove what they left"
await no_churn || fault "odpfs keeps removed files open"
unmount_odpfs
[ "$(ls "$back")" = "data
one
synced" ] || fault "left in BACKING: $(ls "$back")"
exit $failed
