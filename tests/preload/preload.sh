#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: preload.sh UODPRUN LIST_OPEN
# Which devices a program sees under uodprun alone (host.sh: beside a host's); how
# bad settings are answered; and that uodprun keeps its promises.
set -u
uodprun=$1 list=$2
unset UODP_ONLY
dir=$UODP_DIR
failed=0

# expect STATUS PATTERN COMMAND...: the status, and a line that matches (grep -E)
expect()
{
	want=$1 pattern=$2
	shift 2
	out=$("$@" 2>&1)
	status=$?
	if [ $status -ne "$want" ] || ! printf '%s\n' "$out" | grep -Eq -e "$pattern"; then
		printf 'FAIL: %s\n  status %s, expected %s and /%s/; output:\n%s\n' \
			"$*" $status "$want" "$pattern" "$out"
		failed=1
	fi
}

# refuse PATTERN COMMAND...: no line of its output matches
refuse()
{
	pattern=$1
	shift
	out=$("$@" 2>&1)
	if printf '%s\n' "$out" | grep -Eq -e "$pattern"; then
		printf 'FAIL: %s\n  has /%s/; output:\n%s\n' "$*" "$pattern" "$out"
		failed=1
	fi
}

# ---- alone ----
# shellcheck disable=SC2317 # called through expect
only() { "$uodprun" --only "$@"; }
expect 0 '^1 devices$' only "$list"
expect 0 'UODP_ONLY: "perhaps" is neither 0 nor 1' env UODP_ONLY=perhaps "$uodprun" "$list"
expect 1 'no list: Invalid argument' only --devices=a/b "$list"
expect 0 'import: Operation not supported' only "$list"

# ---- names ----
expect 0 '^3 devices$' only -d left,right,uodp7 "$list"
expect 0 '^2 devices$' only -d left,left,a/b,,right "$list"
expect 0 'UODP_DEVICES: "left" skipped: it is there twice' only -d left,left "$list"
expect 0 'UODP_DEVICES: "a/b" skipped: not a device name' only -d a/b,c "$list"
expect 0 'UODP_DEVICES: ".." skipped: not a device name' only -d ..,c "$list"
expect 0 'UODP_DEVICES: ".a" skipped: not a device name' only -d .a,c "$list"
long=0123456789012345678901234567890123456789012345678901234567890123
expect 0 'skipped: not a device name' only -d $long,c "$list"
expect 0 '^1 devices$' only -d "${long%3}" "$list"
many=$(seq -s, 17)
expect 0 '^16 devices$' only -d "$many" "$list"
expect 0 '"17" skipped: more than 16 devices' only -d "$many" "$list"

# ---- the run directory ----
refuse 'channel made' only --dir /proc/nowhere "$list"
expect 1 '^no list: No such file or directory$' only --dir /proc/nowhere "$list"
open=$dir/open
mkdir -m 755 "$open"
expect 1 'open to other users' only --dir "$open" "$list"
expect 1 '^no list: (Permission denied|Operation not permitted)$' only --dir "$open" "$list"
deep=$dir/$(printf '%0250d' 0)
mkdir -m 700 "$deep"
expect 1 'set UODP_DIR to a shorter one' only --dir "$deep" "$list"
# What libibverbs reads there is mended when it was damaged.
port=$dir/sys/class/infiniband/uodp0/ports/1
gid=$(cat "$port/gids/1")
rm -r "$port/gids" && echo junk >"$port/gids"
rm "$port/pkeys/0" && mkdir "$port/pkeys/0"
echo rubbish >"$port/gid_attrs/types/0"
expect 0 'open, channel made' only "$list"
for file in gids/1 pkeys/0 gid_attrs/types/0; do
	case $(cat "$port/$file") in
	"$gid" | 0xffff | 'RoCE v2') ;;
	*) echo "FAIL: $file is not mended" && failed=1 ;;
	esac
done
[ -z "$(find "$dir/sys" -name '.new*')" ] || { echo 'FAIL: temporary files stay' && failed=1; }

# ---- uodprun ----
expect 0 '^uodprun [0-9]' "$uodprun" --version
expect 0 '^Usage: uodprun' "$uodprun" --help
expect 2 '^Usage: uodprun' "$uodprun"
expect 2 "unrecognized option '--nosuch'" "$uodprun" --nosuch true
expect 2 'auto, pool or va' "$uodprun" --backing=tape true
expect 127 'cannot run nosuchcommand' "$uodprun" nosuchcommand
expect 126 'cannot run /dev/null' "$uodprun" /dev/null
expect 7 '' "$uodprun" sh -c 'exit 7'
expect 0 '^-x --only$' "$uodprun" echo -x --only
expect 0 '^UODP_BACKING=va$' "$uodprun" -b va env
expect 0 "^UODP_DIR=$(pwd)/here$" "$uodprun" -D here env
expect 0 '^LD_PRELOAD=/first.so:.*/libuodp-rdmav[0-9]+.so:/last.so$' \
	env UODP_PRELOAD_FIRST=/first.so LD_PRELOAD=/last.so "$uodprun" env
# A copy elsewhere finds no provider beside itself.
mkdir "$dir/bin" && cp "$uodprun" "$dir/bin/"
if "$dir/bin/uodprun" true 2>/dev/null; then
	: # one is installed
else
	expect 125 'cannot find the provider' "$dir/bin/uodprun" true
fi
setuid=$dir/setuid
cp /bin/true "$setuid"
if [ "$(id -u)" -eq 0 ] && chown 65534 "$setuid" && chmod u+s "$setuid"; then
	expect 126 'set-user-ID' "$uodprun" "$setuid"
fi
exit $failed
