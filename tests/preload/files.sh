#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: files.sh UODPRUN
# The device's files as programs and scripts look at them.
set -u
uodprun=$1
failed=0

# run PATTERN SCRIPT: a shell under uodprun prints a line that matches (grep -E)
run()
{
	out=$("$uodprun" sh -c "$2" 2>&1)
	if ! printf '%s\n' "$out" | grep -Eq -e "$1"; then
		printf 'FAIL: %s\n  no /%s/ in:\n%s\n' "$2" "$1" "$out"
		failed=1
	fi
}
ib=/sys/class/infiniband/uodp0

run '^yes$' 'test -c /dev/infiniband/uverbs0 -a -r /dev/infiniband/uverbs0 -a -w /dev/infiniband/uverbs0 && echo yes'
run '^4: ACTIVE$' "cat $ib/ports/1/state"
run '^100 Gb/sec \(4X EDR\)$' "cat $ib/ports/1/rate"
run '^lo$' "cat $ib/ports/1/gid_attrs/ndevs/0"
run '^lo$' "ls $ib/device/net"
run '^RoCE v2$' "cat $ib/ports/1/gid_attrs/types/1"
run '^0000:0000:0000:0000:0000:ffff:7f00:0001$' "cat $ib/ports/1/gids/1"
run '^0xffff$' "cat $ib/ports/1/pkeys/0"
run '^uodp0$' 'cat /sys/class/infiniband_verbs/uverbs0/ibdev'
run '^6$' 'cat /sys/class/infiniband_verbs/abi_version'
run '^uverbs0$' "ls $ib/device/infiniband_verbs"
run '^NAME=uodp0$' "cat $ib/uevent"
run '^DEVNAME=infiniband/uverbs0$' 'cat /sys/class/infiniband_verbs/uverbs0/uevent'
run '^0x[0-9a-f]{8}$' "cat $ib/ports/1/cap_mask"
# By patterns, relative names, and with useless parts.
run '^/sys/class/infiniband/uodp0/ports/1$' 'echo /sys/class/infiniband/*/ports/*'
run '^1: CA$' 'cd /sys/class/infiniband/uodp0 && cat node_type'
run '^1: CA$' 'cd /sys/class && cat infiniband/uodp0/node_type'
run '^1: CA$' 'cat //sys/./class/net/../infiniband//uodp0/node_type'
run '^yes$' 'test -e /sys/class/infiniband/.. -a -d /sys/class/infiniband/ && echo yes'
# The rest of /sys and /dev is what it was.
run '^yes$' 'test -d /sys/class/net -a -e /sys/class/net/lo -a -c /dev/null && echo yes'
# Nothing of it can be changed.
run 'Permission denied' "echo x >$ib/node_desc"
run 'Permission denied' "echo x >>$ib/ports/1/state"
run 'Permission denied' "echo x >$ib/new"
run '^no$' "test -w $ib/node_desc || echo no"
run '^uodp0$' "cat $ib/node_desc"
run 'No such file' 'cat /sys/class/infiniband/uodp9/node_guid'
run 'No such file' 'cat /dev/infiniband/uverbs7'
# Counters: over all processes, those that have ended too; whoever looks, wherever he is.
c=$ib/ports/1/counters
count() { "$uodprun" cat "$1"; }
if command -v ib_write_bw >/dev/null; then
	port=$((15000 + $$ % 15000))
	pair() { "$uodprun" --pair ib_write_bw -F -d uodp0 -x 1 -p $port "$@" >/dev/null 2>&1; }
	before=$(count $c/port_xmit_packets)
	pair -n 1000 -s 4096 || { echo "FAIL: ib_write_bw"; failed=1; }
	after=$(count $c/port_xmit_packets)
	[ $((after - before)) -eq 1000 ] || { echo "FAIL: $before, 1000 messages, $after"; failed=1; }
	run "^$after\$" "cd $c && cat port_rcv_packets"
	run "^$after\$" "cat $ib/ports/1/hw_counters/sent_pkts"
	run "^$((after * 1024))\$" "cat $c/port_xmit_data" # words of 4 bytes
	run '^0$' "cat $c/symbol_error"
	run "^$after\$" "cp $c/unicast_xmit_packets $UODP_DIR/copy && cat $UODP_DIR/copy"
	run "^$after\$" "python3 -c 'import os
d = os.open(\"$c\", os.O_RDONLY)
print(os.read(os.open(\"port_xmit_packets\", os.O_RDONLY, dir_fd=d), 99).decode())'"
	# While it runs, never falling, also not when its queue pairs and processes go.
	pair -D 3 &
	last=$after grown=0
	while kill -0 $! 2>/dev/null; do
		now=$(count $c/port_xmit_packets)
		[ "$now" -ge "$last" ] || { echo "FAIL: from $last to $now"; failed=1; }
		[ "$now" -eq "$last" ] || grown=$((grown + 1))
		last=$now
		sleep 0.1
	done
	wait
	[ $grown -ge 3 ] || { echo "FAIL: it grew $grown times in 3 seconds"; failed=1; }
	[ "$(count $c/port_xmit_packets)" -ge "$last" ] || { echo "FAIL: below $last"; failed=1; }
	run 'Permission denied' "echo 0 >$c/port_xmit_packets"
else
	echo "skip: counters need ib_write_bw (package perftest)"
fi
# From an interpreter: listing, stat, links, odd offsets, the device file itself.
"$uodprun" python3 - <<'EOF' || failed=1
import errno, glob, mmap, os, stat
base = "/sys/class/infiniband"
assert os.listdir(base) == ["uodp0"], os.listdir(base)
assert sorted(e.name for e in os.scandir("/dev/infiniband")) == ["rdma_cm", "uverbs0"]
assert glob.glob(base + "/*/node_guid") == [base + "/uodp0/node_guid"]
assert os.path.realpath(base + "/uodp0/node_type").endswith("/uodp0/node_type")
assert os.path.islink(base + "/uodp0")
with open(base + "/uodp0/node_type", "rb") as f:
    f.seek(3)
    assert f.read() == b"CA\n"
    f.seek(1000)
    assert f.read() == b""

def fails(err, fn, *args):
    try:
        fn(*args)
    except OSError as e:
        assert e.errno == err, (e, err)
        return
    raise AssertionError("%s%s did not fail" % (fn, args))

node = "/dev/infiniband/uverbs0"
fails(errno.ENOTDIR, os.listdir, node)
fails(errno.EINVAL, os.readlink, node)
fails(errno.EISDIR, os.open, base, os.O_WRONLY)
fails(errno.EACCES, os.open, base + "/uodp0/fw_ver", os.O_RDWR)
fails(errno.EEXIST, os.open, base + "/uodp0/fw_ver", os.O_RDWR | os.O_CREAT | os.O_EXCL)
fails(errno.EACCES, os.open, "/dev/infiniband/new", os.O_RDWR | os.O_CREAT)
fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
for st in (os.stat(node), os.lstat(node), os.fstat(fd), os.fstat(os.dup(fd))):
    assert stat.S_ISCHR(st.st_mode) and st.st_rdev == os.makedev(231, 0x40000), st
fails(errno.EINVAL, os.write, fd, b"rubbish!" * 3)
fails(errno.EINVAL, os.write, fd, b"")
try:
    mmap.mmap(fd, 4096, prot=mmap.PROT_READ)
    raise AssertionError("the device file can be mapped")
except (OSError, ValueError):
    pass
os.close(fd)
fails(errno.EBADF, os.write, fd, b"12345678")
EOF
exit $failed
