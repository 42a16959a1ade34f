#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: bad.sh ODPCTL LIAR
# Wrong usage, directories that are not to be used, domains and processes that
# lie: odpctl says so in one line, and neither crashes nor hangs.
set -u
odpctl=$1 liar=$2

tmp=$(mktemp -d) || exit 1
pid=
finish() {
	[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null
	rm -rf "$tmp"
}
trap finish EXIT
trap 'exit 143' INT TERM

failed=0
fault() {
	echo "FAILED: $*"
	failed=1
}
# expect STATUS LINES WHAT ARGUMENT...: exit status, lines on stderr
expect() {
	want=$1 lines=$2 what=$3
	shift 3
	timeout 60 "$odpctl" "$@" >"$tmp/out" 2>"$tmp/err"
	status=$?
	[ $status = "$want" ] || fault "$what: odpctl $*: status $status, not $want: $(cat "$tmp/err")"
	n=$(wc -l <"$tmp/err")
	[ "$n" = "$lines" ] || fault "$what: odpctl $*: $n lines, not $lines: $(cat "$tmp/err")"
	if LC_ALL=C grep -q '[^[:print:][:space:]]' "$tmp/out" "$tmp/err"; then
		fault "$what: odpctl $*: prints what was not cleaned"
	fi
	# The first of a failure's lines names the program (libodp's its own name).
	case $status in
	1) grep -qE '^(odpctl|uodp): ' "$tmp/err" || fault "$what: odpctl $*: no message" ;;
	esac
}
json_keep() { # what is on stdout shall be JSON; looked at in the end
	cp "$tmp/out" "$tmp/json/$1"
}
json_check() {
	command -v python3 >/dev/null || return 0
	python3 - "$tmp"/json/* <<'EOF' || failed=1
import json, sys
failed = 0
for name in sys.argv[1:]:
    try:
        with open(name) as f:
            json.load(f)
    except ValueError as err:
        print(f'FAILED: {name}: not JSON: {err}')
        failed = 1
sys.exit(failed)
EOF
}
mkdir "$tmp/json"
ok() { expect 0 0 "$@"; }

# ---- usage ----

ok help --help
grep -q '^Usage: odpctl' "$tmp/out" || fault "--help prints no usage"
ok version --version
grep -q '^odpctl [0-9]' "$tmp/out" || fault "--version prints no version"
expect 2 2 "unknown subcommand" qp-s
expect 2 2 "two subcommands" qps mrs
expect 2 2 "unknown option" --frobnicate
for pid in 0 -1 x 1x '' 99999999999; do
	expect 2 2 "bad pid" qps --pid "$pid"
done
pid=
expect 2 2 "no directory" qps --dir ''
expect 2 2 "caps of a process" caps --pid 1

# ---- directories ----

fails() { # one line, and an object for programs
	expect 1 1 "$1"
	expect 1 1 "$1" mrs --json
	json_keep "$1"
	grep -q '"error"' "$tmp/out" || fault "$1: no error object"
}
export UODP_DIR
UODP_DIR=$tmp/open
mkdir "$UODP_DIR" && chmod 755 "$UODP_DIR"
fails "directory open to others"
UODP_DIR=$tmp/file
: >"$UODP_DIR"
fails "a file for a directory"
if [ "$(id -u)" = 0 ]; then
	UODP_DIR=$tmp/foreign
	mkdir -m 700 "$UODP_DIR" && chown 12345 "$UODP_DIR"
	fails "another user's directory"
fi

# ---- domain files ----

UODP_DIR=$tmp/run
mkdir -m 700 "$UODP_DIR"
domain=$UODP_DIR/domain
: >"$domain"
ok "a domain being made" mrs
echo garbage >"$domain"
fails "garbage"
head -c 5000000 /dev/urandom >"$domain"
fails "long garbage"
rm "$domain" && mkdir "$domain"
fails "a directory for a domain"
rmdir "$domain" && ln -s /dev/zero "$domain"
fails "a symbolic link"
rm "$domain" && mkfifo "$domain"
fails "a FIFO"
rm "$domain"

# ---- liars ----

mkfifo "$tmp/in"
begin() { # LIE
	"$liar" "$1" <"$tmp/in" >"$tmp/ready" &
	pid=$!
	exec 9>"$tmp/in"
	tries=0
	until grep -q ready "$tmp/ready"; do
		tries=$((tries + 1))
		if [ $tries -gt 1200 ] || ! kill -0 "$pid" 2>/dev/null; then
			echo "FAILED: liar $1 did not start"
			exit 1
		fi
		sleep 0.05
	done
}
end() {
	exec 9>&-
	wait "$pid" || fault "liar failed"
	pid=
	: >"$tmp/ready"
}
rows() { # SUBCOMMAND COUNT WHAT
	timeout 60 "$odpctl" "$1" >"$tmp/out" 2>/dev/null
	n=$(($(wc -l <"$tmp/out") - 1))
	[ "$n" = "$2" ] || fault "$3: $1 has $n rows, not $2: $(cat "$tmp/out")"
}
# lie STATUS LINES PROCESSES QPS MRS NAME
lie() {
	begin "$6"
	for sub in "" devices processes qps cqs mrs stats; do
		expect "$1" "$2" "$6" $sub
		expect "$1" "$2" "$6" $sub --json
		json_keep "$6-$sub"
	done
	rows processes "$3" "$6"
	[ "$4" = any ] || rows qps "$4" "$6"
	[ "$5" = any ] || rows mrs "$5" "$6"
	end
}
: >"$tmp/ready"
lie 0 0 1 1 1 none
lie 0 0 0 0 0 unlocked
lie 0 1 0 0 0 start

# A good domain file, one thing in its head wrong.
begin none
end
patched() { # OFFSET WHAT
	cp "$domain" "$tmp/good"
	printf '\377' | dd of="$domain" bs=1 seek="$1" conv=notrunc 2>/dev/null
	fails "$2"
	cp "$tmp/good" "$domain"
}
patched 0 "wrong magic"
patched 8 "another version"
patched 12 "wrong size in the head"
patched "$(wc -c <"$domain")" "too long"
ok "the good domain" mrs
truncate -s 4096 "$domain"
fails "cut off"

for name in pid seg-pid slot gen magic version arena short seg-fd-none seg-fd-stdin seg-fd-far; do
	lie 1 1 1 0 0 $name
done
for name in root-magic root-version root-outside root-wraps devices qps-outside cqs-outside \
	srqs-outside qp-high random-root; do
	lie 1 1 1 0 1 $name
done
for name in device-name qp-state qp-device mr-kind mr-pages mr-xlat regions-high comm lanes; do
	lie 0 0 1 1 1 $name
done
lie 0 0 1 any any random-tables
lie 0 0 1 1 1 pool-fd

# Slots full of noise, every one of them held: none is a process.
begin random-slots
for sub in "" devices processes qps mrs; do
	timeout 60 "$odpctl" $sub >/dev/null 2>&1
	[ $? -le 1 ] || fault "random-slots: odpctl $sub crashed or hung"
done
end

json_check
exit $failed
