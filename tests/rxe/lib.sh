# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# shellcheck shell=bash
# Shared by the scripts of this directory; sourced, never run.

PATH=$PATH:/usr/sbin:/sbin # of modprobe and mkfs, which need no root here
RXE_SUITE=${UODP_RXE_SUITE:-trixie-backports}
RXE_CACHE=${UODP_CACHE:-${HOME:-/var/tmp}/.cache/uodp}/rxe/$RXE_SUITE
RXE_TREE=$RXE_CACHE/tree

die() {
	echo "${0##*/}: $*" >&2
	exit 125
}

need() {
	local missing='' pair

	for pair in "$@"; do
		command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
	done
	[ -z "$missing" ] || die "missing; try: apt-get install$missing"
}

# The version of the kernel in the cache; fails if there is none that is whole.
rxe_version() {
	[ -s "$RXE_CACHE/version" ] && cat "$RXE_CACHE/version"
}

rxe_vmlinuz() {
	local v=$1 f

	for f in "$RXE_TREE/usr/lib/modules/$v/vmlinuz" "$RXE_TREE/boot/vmlinuz-$v"; do
		[ -s "$f" ] && echo "$f" && return
	done
	return 1
}

# Prints the files of the named modules, dependencies first.
rxe_modules() {
	local v=$1

	shift
	modprobe --show-depends -d "$RXE_TREE" -S "$v" -a "$@" 2>/dev/null |
		awk '$1 == "insmod" && !seen[$2]++ { print $2 }'
}

# 7.3.4 of 7.3.4+deb13-amd64: what a record is named by.
rxe_plain_version() {
	printf '%s\n' "$1" | sed 's/[^0-9.].*//'
}

# The files of recorded answers below DIRECTORY, the newest kernel's first.
rxe_records() {
	printf '%s\n' "$1"/answers/*.json | sort -rV
}
