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
