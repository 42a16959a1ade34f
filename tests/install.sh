#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: install.sh CMAKE BUILD-DIRECTORY CC
# What is installed works from there: the tools, the manual, and programs that
# are built against it.
set -eu
prefix=$UODP_DIR/prefix
"$1" --install "$2" --prefix "$prefix" >/dev/null
find_one() { # NAME: its path below the prefix
	found=$(find "$prefix" -name "$1")
	[ -n "$found" ] || {
		echo "$1 is not installed" >&2
		exit 1
	}
	printf '%s\n' "$found"
}

find_one uodp.driver >/dev/null
find_one uodp.7 >/dev/null
find_one odp_region_create.3 >/dev/null
"$prefix/bin/odpctl" caps >/dev/null
"$prefix/bin/uodprun" "$prefix/bin/odpcmp" -d uodp0 --kind=anon --event=none >/dev/null
# Nothing of the build folder may be in use.
"$prefix/bin/uodprun" sh -c 'grep libuodp /proc/self/maps' | grep -q "$prefix"
"$prefix/bin/uodprun" sh -c 'grep libodp.so /proc/self/maps' | grep -q "$prefix"

if ! command -v pkg-config >/dev/null; then
	echo "pkg-config is not installed: linking not tried"
	exit 0
fi
PKG_CONFIG_PATH=$(dirname "$(find_one libodp.pc)")
export PKG_CONFIG_PATH
cat >"$UODP_DIR/user.c" <<'EOF'
#include <odp/odp.h>
#include <stdio.h>
int main(void)
{
	struct odp_proc *proc;

	if (odp_proc_get(&proc))
		return 1;
	return puts(odp_proc_dir(proc)) < 0;
}
EOF
# shellcheck disable=SC2046 # flags are words
"$3" "$UODP_DIR/user.c" -o "$UODP_DIR/user" $(pkg-config --cflags --libs libodp) \
	"-Wl,-rpath,$(pkg-config --variable=libdir libodp)"
[ "$("$UODP_DIR/user")" = "$UODP_DIR" ]
