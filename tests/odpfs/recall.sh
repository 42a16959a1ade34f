#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: recall.sh ODPFS RECALL
# Memory regions on files whose blocks go away: each policy, named by the region and by
# the mount.
set -u
recall=$2
. "$(dirname "$0")/mount.sh"

mount_odpfs -o uodp=require || exit 1
"$recall" "$mnt" || fault "regions' own policies"
unmount_odpfs
for policy in odp pinned scratch revoke lease kill deny; do
	mount_odpfs -o "uodp=require,policy=$policy,lease_ms=150" || exit 1
	"$recall" "$mnt" $policy || fault "the mount's policy: $policy"
	unmount_odpfs
done
exit $failed
