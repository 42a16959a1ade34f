#!/bin/bash
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: odpcmp_policies.sh UODPRUN ODPCMP
# Every policy on an odpfs of odpcmp's own: the answers that uodp(7) promises, the same
# ones through every way out, and nothing left behind, whatever ends it.
set -u
uodprun=$1
odpcmp=$2
if [ ! -w /dev/fuse ] || ! command -v fusermount3 >/dev/null; then
	echo "skipped: no /dev/fuse that can be written, or no fusermount3"
	exit 77
fi
dir=$(mktemp -d "${TMPDIR:-/var/tmp}/odpcmp-policies.XXXXXX")
trap 'find "$dir" -xdev -depth -delete 2>/dev/null' EXIT
failed=0
fail() {
	echo "FAILED: $*"
	failed=1
}

run() { # OPTION...
	"$uodprun" "$odpcmp" -d uodp0 --fs=odpfs --dir="$dir" --timeout=60 "$@"
}
left() {
	find "$dir" -name "*odpcmp-odpfs*" | grep . || grep "$dir" /proc/self/mounts
}

# A lease of a second: on a busy machine, too, the owner learns of it before it is killed.
run --kind=file --event=truncate-grow,punch,open-trunc --lease-ms=1000 --json >"$dir/a.json" 2>"$dir/messages" ||
	{ fail "exit status $?"; cat "$dir/messages"; }
[ -z "$(left)" ] || fail "left behind: $(left)"

# expect EVENT POLICY OP ANSWER TRUNCATER TOLD LOST: for both kinds of region. LOST may be
# ANY: the truncate is asked for by the owner itself, which is killed as it waits; whether
# the kernel still sends the request then is a matter of the moment.
expect() {
	local mr got lost
	for mr in pinned odp; do
		got=$(python3 - "$dir/a.json" "$1" "$2" "$mr" "$3" <<'END'
import json, sys
cells = json.load(open(sys.argv[1]))["cells"]
for c in cells:
    if [c["event"], c.get("policy"), c["mr"], c["op"]] == sys.argv[2:]:
        print(c["answer"], c["truncater"], c["told"], c.get("bytes_lost"), sep="|")
END
		)
		lost=$7
		[ "$lost" != ANY ] || lost=${got##*|}
		[ "$got" = "$4|$5|$6|$lost" ] || fail "$1 $2 $mr $3: '$got', not '$4|$5|$6|$7'"
	done
}
expect truncate-grow odp read new ok - 512
expect truncate-grow odp write visible ok - 512
expect truncate-grow pinned read old ok - 0
expect truncate-grow pinned write 'not visible' ok - 0
expect truncate-grow scratch write 'not visible' ok - 512
expect truncate-grow revoke read REM_ACCESS_ERR ok revoked 512
expect truncate-grow lease write REM_ACCESS_ERR ok 'lease, SIGIO, revoked' 512
expect truncate-grow kill read RETRY_EXC_ERR SIGKILL 'lease, SIGIO, SIGKILL' ANY
expect truncate-grow deny write visible ETXTBSY - 0
expect open-trunc odp read REM_ACCESS_ERR ok - 512
expect open-trunc deny read old ETXTBSY - 0
expect punch pinned read old ok - 0
expect punch kill write RETRY_EXC_ERR SIGKILL 'lease, SIGIO, SIGKILL' 512

# The same from a file; a difference in what the program was told is one.
"$odpcmp" --from="$dir/a.json" --compare="$dir/a.json" --report="$dir/page.html" >"$dir/out" ||
	fail "a run differs from itself"
grep -q 'REM_ACCESS_ERR.*lease, SIGIO, revoked.*512 B' "$dir/out" || fail "no row of lease"
for word in Policies retarget revoke lease deny 'lease, SIGIO, SIGKILL'; do
	grep -q "$word" "$dir/page.html" || fail "the page has no $word"
done
sed 's/"told": "revoked"/"told": "-"/' "$dir/a.json" >"$dir/b.json"
"$odpcmp" --from="$dir/a.json" --compare="$dir/b.json" >"$dir/out" && fail "no difference is seen"
grep -q 'differs: file punch revoke pinned read: REM_ACCESS_ERR; revoked' "$dir/out" ||
	fail "the difference is not told"
cat >"$dir/accept.json" <<'END'
[{"kind": "*", "event": "*", "mr": "*", "op": "*", "policy": "revoke", "reason": "a test"}]
END
"$odpcmp" --from="$dir/a.json" --compare="$dir/b.json" --accept="$dir/accept.json" >"$dir/out" ||
	fail "an accepted difference counts"

# Killed in the middle.
for signal in TERM KILL; do
	"$uodprun" "$odpcmp" -d uodp0 --fs=odpfs --dir="$dir" --jobs=1 >/dev/null 2>&1 &
	pid=$! # uodprun's, and odpcmp's then
	for _ in $(seq 600); do
		grep -q "$dir/odpcmp-odpfs" /proc/self/mounts && break
		sleep 0.05
	done
	sleep 0.3
	kill -$signal $pid
	wait $pid 2>/dev/null
	for _ in $(seq 600); do
		[ -n "$(left)" ] || break
		sleep 0.1
	done
	[ -z "$(left)" ] || fail "SIG$signal: left behind: $(left)"
done

PATH=/nonexistent "$odpcmp" --fs=ext5 >"$dir/out" 2>&1 && fail "there is no --fs=ext5"
"$odpcmp" --policy=revoke >"$dir/out" 2>&1 && fail "--policy without --fs"
exit $failed
