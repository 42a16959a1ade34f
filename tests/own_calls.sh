#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# own_calls.sh LIBODP PROVIDER: libodp calls nothing that the provider, preloaded, stands
# in front of (libodp/base/own.h): such a call would come back into libodp.
set -eu

odp=$1 provider=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# Names of the dynamic symbols that nm's arguments choose, without their versions.
names() {
	nm -D "$@" | awk '{ sub(/@.*/, "", $NF); print $NF }' | sort -u
}

names --undefined-only "$odp" >"$dir/called"
names --defined-only "$provider" >"$dir/stands"
# It would pass on a library that was stripped of the tables, too.
grep -qx close "$dir/stands" || { echo "$provider does not define close()"; exit 1; }
grep -qx memcpy "$dir/called" || { echo "$odp has no undefined symbols"; exit 1; }
comm -12 "$dir/called" "$dir/stands" >"$dir/both"
if [ -s "$dir/both" ]; then
	echo "libodp calls functions that the provider interposes:"
	cat "$dir/both"
	exit 1
fi
