#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: run.sh COMMAND...
# Runs the storm when it is asked for: it needs a machine to itself.
if [ "${UODP_TEST_STORM:-0}" != 1 ]; then
	echo "skipped: UODP_TEST_STORM=1 runs the storm"
	exit 77
fi
exec "$@"
