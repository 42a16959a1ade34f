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

# A truncate waits for a lease of ten minutes. Its program is killed, or interrupted: it
# ends, and nothing has changed. odpfs is killed: the truncate fails, the owner goes on,
# and the next odpfs is not kept out.
mount_odpfs -o uodp=require || exit 1
head -c 32768 /dev/zero >"$mnt/file"
mkfifo "$tmp/in"
(cd "$mnt" && exec "$recall" --owner file lease 600000) <"$tmp/in" >"$tmp/hello" &
owner=$!
exec 7>"$tmp/in"
await test -s "$tmp/hello" || { fault "no owner"; exit 1; }
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
exec 7>&-
wait $owner || fault "the owner ended with status $?"
fusermount3 -u "$mnt" || fault "cannot unmount"
mount_odpfs -o uodp=require || exit 1
truncate -s 0 "$mnt/file" || fault "cannot truncate after all that"
unmount_odpfs
exit $failed
