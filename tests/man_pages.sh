#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: man_pages.sh SOURCE-DIRECTORY
# Every page renders without a warning, and every exported function of libodp and
# direct verb has its name in one.
set -u
cd "$1" || exit 1
if ! command -v groff >/dev/null; then
	echo "skipped: groff is not installed"
	exit 77
fi
failed=0
warnings=$(mktemp) || exit 1
trap 'rm -f "$warnings"' EXIT
for page in man/*.[137]; do
	# Keeping the text: an empty page would pass otherwise.
	text=$(groff -t -man -ww -Tutf8 -k -P -cbou "$page" 2>"$warnings") || failed=1
	if [ -s "$warnings" ]; then
		cat "$warnings"
		failed=1
	fi
	case $text in
	*NAME*DESCRIPTION*) ;;
	*)
		echo "$page: no NAME or no DESCRIPTION"
		failed=1
		;;
	esac
done
names=$(sed -n 's/^[[:space:]]*\(u*odp[dv]*_[a-z_]*\);/\1/p' libodp/libodp.map \
	providers/uodp/libuodp.map)
for name in $names; do
	if ! sed -n '/^\.SH NAME/,/^\.SH LIBRARY/p' man/odp_*.3 man/uodpdv_*.3 | grep -qw "$name"; then
		echo "$name is exported, and no page is about it"
		failed=1
	fi
	case $name in
	uodpdv_*)
		grep -qw "$name" man/uodpdv.7 || {
			echo "uodpdv.7 does not name $name"
			failed=1
		}
		;;
	esac
	if [ ! -e "man/$name.3" ] && ! grep -qw "$name" man/CMakeLists.txt; then
		echo "man/CMakeLists.txt makes no link for $name"
		failed=1
	fi
	# A page, or a link to one: both would be one file when they are installed.
	if [ -e "man/$name.3" ] && ! grep -qw "uodp_man_links($name" man/CMakeLists.txt &&
		grep -qw "$name" man/CMakeLists.txt; then
		echo "man/CMakeLists.txt makes a link for $name, which has a page"
		failed=1
	fi
done
exit $failed
