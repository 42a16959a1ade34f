#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: run.sh ODPFS UODPRUN CHECKER [OPTION...]
# The checker on an odpfs of its own.
set -u
uodprun=$2
checker=$3
# shellcheck source=tests/odpfs/mount.sh
. "$(dirname "$0")/../odpfs/mount.sh"
shift 3

mount_odpfs -o uodp=require || exit 1
"$uodprun" "$checker" "$@" "$back" "$mnt" || fault "checker"
unmount_odpfs
exit $failed
