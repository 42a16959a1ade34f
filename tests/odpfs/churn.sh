#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: churn.sh ODPFS CHURN [OPTION...]
# Random operations against a model, and afterwards the same content in BACKING.
set -u
churn=$2
# shellcheck source=tests/odpfs/mount.sh
. "$(dirname "$0")/mount.sh"
shift 2

mount_odpfs || exit 1
"$churn" "$@" "$mnt" || fault "churn"
(cd "$mnt" && sha256sum ./*) >"$tmp/sums"
[ -s "$tmp/sums" ] || fault "churn left no files"
unmount_odpfs
(cd "$back" && sha256sum --quiet -c "$tmp/sums") || fault "BACKING has other content"
exit $failed
