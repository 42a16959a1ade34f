#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: lease.sh ODPFS LEASE
# Who holds a lease can go on with its memory until it deregisters.
set -u
lease=$2
# shellcheck source=tests/odpfs/mount.sh
. "$(dirname "$0")/mount.sh"

mount_odpfs -o uodp=require || exit 1
timeout 200 "$lease" "$mnt" || fault "status $?"
unmount_odpfs
exit "$failed"
