# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# shellcheck shell=bash
# Runs inside the virtual machine, in the host's root: sets up rxe0, runs the
# command, leaves its output and its status in /run/job.

job=/run/job

fail() {
	echo "uodp-vm: $*"
	exit 1
}

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ip link set lo up
ip link add dummy1 type dummy || fail "cannot add dummy1"
ip addr add 10.9.9.1/24 dev dummy1
ip link set dummy1 up
rdma link add rxe0 type rxe netdev dummy1 || fail "cannot add rxe0"
for _ in $(seq 100); do
	grep -q ACTIVE /sys/class/infiniband/rxe0/ports/1/state && break
	sleep 0.05
done
grep -q ACTIVE /sys/class/infiniband/rxe0/ports/1/state || fail "the port of rxe0 stays down"

. $job/environment
cd "$(cat $job/cwd)" 2>/dev/null || cd /
timeout -k 5 "$(cat $job/limit)" bash $job/command >$job/stdout 2>$job/stderr </dev/null
echo $? >$job/status
