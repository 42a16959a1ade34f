#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: isolate.sh COMMAND...
# Runs COMMAND with a run directory of its own, so that tests neither see nor
# disturb each other's processes nor those of the user.
set -u
UODP_DIR=$(mktemp -d "${TMPDIR:-/tmp}/uodp-test.XXXXXX") || exit 1
export UODP_DIR
trap 'rm -rf "$UODP_DIR"' EXIT
trap 'exit 143' INT TERM
"$@"
