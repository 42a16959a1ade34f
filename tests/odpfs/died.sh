#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: died.sh ODPFS DIED
# odpfs is killed under the traffic of regions of all policies.
set -u
died=$2
# shellcheck source=tests/odpfs/mount.sh
. "$(dirname "$0")/mount.sh"

mount_odpfs -o uodp=require || exit 1
timeout 200 "$died" "$mnt" "$daemon" || fault "status $?"
wait "$daemon" 2>/dev/null
daemon=
exit "$failed"
