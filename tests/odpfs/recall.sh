#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: recall.sh ODPFS RECALL [regions]
# Memory regions on files whose blocks go away: each policy, named by the region and,
# but for "regions", by the mount; and odpfs killed.
set -u
recall=$2
part=${3:-}
# shellcheck source=tests/odpfs/mount.sh
. "$(dirname "$0")/mount.sh"

mount_odpfs -o uodp=require || exit 1
"$recall" "$mnt" || fault "regions' own policies"
unmount_odpfs
[ "$part" != regions ] || exit "$failed"
for policy in odp pinned scratch revoke lease kill deny; do
	mount_odpfs -o "uodp=require,policy=$policy,lease_ms=150" || exit 1
	"$recall" "$mnt" $policy || fault "the mount's policy: $policy"
	unmount_odpfs
done

# ---- named by the mount, by the owner's environment, by the region: the strictest ----

odpctl=$(dirname "$odpfs")/odpctl
mkfifo "$tmp/in"
owner_begin() { # REGION'S-POLICY LEASE-MS [VARIABLE=VALUE...]
	region=$1 ms=$2
	shift 2
	head -c 32768 /dev/zero >"$mnt/file"
	rm -f "$tmp/hello"
	(cd "$mnt" && exec env "$@" "$recall" --owner file "$region" "$ms") <"$tmp/in" >"$tmp/hello" &
	owner=$!
	exec 7>"$tmp/in"
	await test -s "$tmp/hello" || { fault "no owner"; exit 1; }
}
owner_finish() {
	exec 7>&-
	wait $owner || fault "the owner ended with status $?"
}
named() { # MOUNT ENVIRONMENT REGION POLICY
	mount_odpfs -o "uodp=require${1:+,policy=$1}" || exit 1
	owner_begin "$3" 100 UODP_POLICY="$2"
	"$odpctl" mrs --json >"$tmp/mrs"
	grep -q "\"policy\": \"$4\"" "$tmp/mrs" ||
		fault "mount ${1:--}, environment ${2:--}, region $3: not $4: $(cat "$tmp/mrs")"
	if truncate -s 0 "$mnt/file" 2>"$tmp/truncate" 7>&-; then
		[ "$4" != deny ] || fault "mount ${1:--}, environment ${2:--}, region $3: not denied"
	else
		[ "$4" = deny ] && grep -q "Text file busy" "$tmp/truncate" ||
			fault "mount ${1:--}, environment ${2:--}, region $3: $(cat "$tmp/truncate")"
	fi
	owner_finish
	unmount_odpfs
}
named "" "" default odp
named revoke "" default revoke
named odp scratch default scratch
named scratch odp revoke revoke
named revoke scratch odp revoke
named "" lease default lease
named lease deny pinned deny

# The owner's environment has another lease-break time than the mount.
mount_odpfs -o uodp=require,lease_ms=600000 || exit 1
owner_begin lease 0 UODP_LEASE_MS=300
before=$(date +%s%N)
timeout 60 truncate -s 0 "$mnt/file" 7>&- || fault "UODP_LEASE_MS: status $?"
[ $(($(date +%s%N) - before)) -ge 300000000 ] || fault "UODP_LEASE_MS: the truncate did not wait"
owner_finish
unmount_odpfs

# What the backing file system does not know takes nothing from anybody: tmpfs, which
# cannot zero a range, says so, not the region that would deny it.
disk=$back back=$(mktemp -d /dev/shm/odpfs-test.XXXXXX) || exit 1
echo >"$back/file"
if fallocate -z -l 4096 "$back/file" 2>"$tmp/zero"; then
	echo "skipped: the file system at /dev/shm can zero a range"
else
	mount_odpfs -o uodp=require || exit 1
	owner_begin deny 0
	truncate -s 0 "$mnt/file" 2>/dev/null 7>&- && fault "truncated, with a region that denies it"
	fallocate -z -l 4096 "$mnt/file" 2>"$tmp/out" 7>&- && fault "zeroed"
	cmp "$tmp/zero" "$tmp/out" || fault "the backing file system does not say: $(cat "$tmp/out")"
	owner_finish
	unmount_odpfs
fi
rm -r "$back"
back=$disk

# A truncate waits for a lease of ten minutes. Its program is killed, or interrupted: it
# ends, and nothing has changed. odpfs is killed: the truncate fails, the owner goes on,
# and the next odpfs is not kept out.
mount_odpfs -o uodp=require || exit 1
owner_begin lease 600000
for signal in KILL INT; do
	timeout -s $signal 1 truncate -s 0 "$mnt/file" 7>&- && fault "SIG$signal: truncated"
	size=$(stat -c %s "$mnt/file")
	[ "$size" -eq 32768 ] || fault "SIG$signal: truncated to $size"
done
timeout -s INT 1 fallocate -p -l 4096 "$mnt/file" 7>&- && fault "SIGINT: punched"
truncate -s 0 "$mnt/file" 2>"$tmp/truncate" 7>&- &
truncater=$!
sleep 1
kill -0 $truncater || fault "the truncate did not wait: $(cat "$tmp/truncate")"
kill -9 "$daemon"
wait "$daemon" 2>/dev/null
daemon=
wait $truncater && fault "truncated, with odpfs killed"
owner_finish
fusermount3 -u "$mnt" || fault "cannot unmount"
mount_odpfs -o uodp=require || exit 1
truncate -s 0 "$mnt/file" || fault "cannot truncate after all that"
unmount_odpfs
exit $failed
