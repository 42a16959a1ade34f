#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: run.sh COMMAND...
# Runs the storm, which keeps two CPUs busy, unless it is not wanted.
if [ "${UODP_TEST_STORM:-1}" = 0 ]; then
	echo "skipped: UODP_TEST_STORM=0"
	exit 77
fi
exec "$@"
