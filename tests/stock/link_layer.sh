#!/bin/bash
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: link_layer.sh UODPRUN
# UODP_LINK_LAYER: programs that know LIDs alone, and what the device's files say.
set -u
uodprun=${1:?usage: link_layer.sh UODPRUN}
failed=0
port=$((15000 + $$ % 10000))

# run STATUS PATTERN LAYER COMMAND...: its exit status, and a line that it prints (grep -E).
run() {
	local want=$1 pattern=$2 layer=$3 out status
	shift 3
	out=$(UODP_LINK_LAYER=$layer timeout -s KILL 60 "$@" 2>&1)
	status=$?
	if [ $status -ne "$want" ] || ! grep -Eq -e "$pattern" <<<"$out"; then
		printf 'FAIL UODP_LINK_LAYER=%s %s: status %s, expected %s and /%s/\n%s\n' \
			"$layer" "$*" $status "$want" "$pattern" "$out"
		failed=1
	fi
}
have() { command -v "$1" >/dev/null || { echo "skip: no $1"; false; }; }
pair() { run "$1" "$2" infiniband "$uodprun" --pair "${@:3}"; }

if have ibv_rc_pingpong; then
	for program in ibv_rc_pingpong ibv_uc_pingpong ibv_ud_pingpong ibv_srq_pingpong; do
		pair 0 'local address: +LID 0x0001, ' $program -d uodp0 -p $port -n 200
	done
	pair 0 '^1000 iters' ibv_rc_pingpong -d uodp0 -p $port -g 0
	run 0 'port_lid:[[:space:]]+1$' infiniband "$uodprun" ibv_devinfo -d uodp0
	run 0 'link_layer:[[:space:]]+InfiniBand$' infiniband "$uodprun" ibv_devinfo -d uodp0
	run 0 'link_layer:[[:space:]]+Ethernet$' ethernet "$uodprun" ibv_devinfo -d uodp0
fi
if have ib_write_bw; then
	for command in "ib_write_bw -n 1000" "ib_send_bw -c UD -n 1000" "ib_read_lat -n 1000"; do
		# shellcheck disable=SC2086 # words
		pair 0 'Link type +: IB' $command -F -d uodp0 -p $port
	done
fi
if have qperf; then
	for test in rc_lat rc_rdma_write_bw uc_bw ud_lat; do
		pair 0 "^$test:" qperf -lp $port -- qperf -lp $port -t 1 127.0.0.1 $test
	done
fi
if have rping; then
	pair 0 '^ping data: rdma-ping-1' rping -s -C 2 -- rping -c -v -C 2 -a 127.0.0.1
fi

# The device's files; by device; processes of both kinds in one run directory.
ib=/sys/class/infiniband
both=uodp0=ethernet,uodp3=infiniband
export UODP_DEVICES=uodp0,uodp3
run 0 '^InfiniBand$' $both "$uodprun" cat $ib/uodp3/ports/1/link_layer
run 0 '^Ethernet$' $both "$uodprun" cat $ib/uodp0/ports/1/link_layer
run 0 '^0x4$' $both "$uodprun" cat $ib/uodp3/ports/1/lid
run 0 '^0$' $both "$uodprun" ls $ib/uodp3/ports/1/gids
run 0 '^InfiniBand$' infiniband "$uodprun" cat $ib/uodp0/ports/1/link_layer
run 0 '^InfiniBand$' infiniband "$uodprun" cat \
	/sys/class/infiniband_verbs/uverbs0/device/infiniband/uodp0/ports/1/link_layer
run 0 '^Ethernet$' ethernet "$uodprun" cat $ib/uodp3/ports/1/link_layer
run 0 '^Ethernet$' uodp3=ethernet,infiniband "$uodprun" cat $ib/uodp3/ports/1/link_layer
run 0 '^InfiniBand$' uodp3=ethernet,infiniband "$uodprun" cat $ib/uodp0/ports/1/link_layer
if have ibstat; then
	run 0 'Base lid: 4$' $both "$uodprun" ibstat uodp3
	run 0 'Link layer: InfiniBand$' $both "$uodprun" ibstat uodp3
fi
run 0 'UODP_LINK_LAYER: "token" is neither' uodp0=ethernet,token "$uodprun" cat $ib/uodp0/node_type
exit $failed
