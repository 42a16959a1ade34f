#!/bin/bash
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: pair.sh UODPRUN
# uodprun --pair: when the client is started, what is handed on, and that nothing stays.
set -u
uodprun=${1:?usage: pair.sh UODPRUN}
tmp=$(mktemp -d "${TMPDIR:-/tmp}/uodp-pair.XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
failed=0
port=$((15000 + $$ % 15000))

fail() {
	echo "FAIL $name: $*"
	sed 's/^/    /' "$tmp/out" "$tmp/err"
	failed=1
}

# pair STATUS ARGUMENT...: leaves out and err.
pair() {
	local expected=$1 status
	shift
	timeout -s KILL 60 "$uodprun" --pair "$@" >"$tmp/out" 2>"$tmp/err" </dev/null
	status=$?
	[ $status -eq "$expected" ] || fail "status $status, not $expected"
}

said() { grep -q -e "$1" "$tmp/out" "$tmp/err" || fail "does not say '$1'"; }

# there WORD: a process has WORD, which only this test's have, among its arguments; not
# the grep, whose pattern is another text.
there() { grep -lsaq -e "[${1:0:1}]${1:1}" /proc/[0-9]*/cmdline; }

gone() {
	for ((i = 0; i < 10; i++)); do
		there "$1" || return 0
		sleep 0.1
	done
	fail "a process of '$1' is still there"
}

cat >"$tmp/listen.py" <<'END'
"""listen.py WORD PORT DELAY STATUS AFTER: listen after DELAY seconds, take one connection,
and end with STATUS, after AFTER seconds."""
import os, socket, sys, time
port, delay, status, after = int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
time.sleep(delay)
s.bind(("127.0.0.1", port))
s.listen()
s.accept()[0].close()
print("one line", flush=True)
os.write(1, b"no end of line")
time.sleep(after)
sys.exit(status)
END
cat >"$tmp/connect.py" <<'END'
"""connect.py PORT STATUS: connect at once, or fail."""
import socket, sys
socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10).close()
sys.exit(int(sys.argv[2]))
END
py=/usr/bin/python3
listen=("$py" "$tmp/listen.py" "pair-$$")
connect=("$py" "$tmp/connect.py" "$port")

name="a server that takes its time"
pair 0 "${listen[@]}" $port 1 0 0 -- "${connect[@]}" 0
said "^server: one line$"
said "^server: no end of line$"

name="a server below a shell"
pair 0 sh -c "${listen[*]} $port 0.3 0 0; exit \$?" -- "${connect[@]}" 0

name="the client's status counts"
pair 7 "${listen[@]}" $port 0 3 0 -- "${connect[@]}" 7

name="then the server's"
pair 3 "${listen[@]}" $port 0 3 0 -- "${connect[@]}" 0

name="a server that stays is ended, and its status does not count"
pair 0 "${listen[@]}" $port 0 9 1000 -- "${connect[@]}" 0
gone "pair-$$"

name="a client that a signal ends"
pair $((128 + 9)) "${listen[@]}" $port 0 0 1000 -- sh -c 'kill -9 $$'

name="a client that stays with no server"
pair 143 sh -c "${listen[*]} $port 0 1 0" -- sh -c "\"\$@\"; exec sleep 1000.$$" x "${connect[@]}" 0
gone "1000.$$"

name="a server that ends before it listens"
pair 5 sh -c 'exit 5' -- touch "$tmp/started"
said "the server ended before it listened"
[ ! -e "$tmp/started" ] || fail "the client was started"
pair 125 true -- touch "$tmp/started"
[ ! -e "$tmp/started" ] || fail "the client was started"

name="commands that are not there"
pair 127 "$tmp/none" -- true
said "cannot run $tmp/none"
pair 127 "${listen[@]}" $port 0 0 0 -- "$tmp/none"
said "cannot run $tmp/none"
pair 2
pair 2 true --
pair 2 -- -- true

name="the address at the end"
cat >"$tmp/both.sh" <<'END'
#!/bin/sh
[ $# -eq 3 ] && exec "$1/listen.sh" || echo "client: $4"
[ "$4" = 127.0.0.1 ] || exit 9
END
printf '#!/bin/sh\nexec %s %s 0 0 0\n' "${listen[*]}" $port >"$tmp/listen.sh"
chmod +x "$tmp"/*.sh
pair 0 "$tmp/both.sh" "$tmp" -x 1
said "^client: 127.0.0.1$"

name="the signal that ends uodprun ends both"
"$uodprun" --pair "${listen[@]}" $port 0 0 1000 -- sleep "1001.$$" >"$tmp/out" 2>"$tmp/err" &
for ((i = 0; i < 100; i++)); do
	there "1001.$$" && break
	sleep 0.1
done
kill -TERM $!
wait $!
[ $? -eq 143 ] || fail "not status 143"
gone "pair-$$"
gone "1001.$$"

name="a service of rdma_cm"
if command -v rping >/dev/null; then
	pair 0 rping -s -C 2 -- rping -c -v -C 2 -a 127.0.0.1
	said "^ping data: rdma-ping-1"
else
	echo "skip $name: no rping (package rdmacm-utils)"
fi
exit $failed
