#!/usr/bin/python3
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
"""Paths by LID: on a port of InfiniBand they lead to the port of that LID alone, with a
GRH or without; on one of Ethernet they are refused.

usage: pyverbs_lid.py infiniband|ethernet
"""
import ctypes
import errno
import mmap
import sys
import time

try:
    from pyverbs.addr import AH, AHAttr, GlobalRoute
    from pyverbs.cq import CQ
    from pyverbs.device import Context
    from pyverbs.mr import MR
    from pyverbs.pd import PD
    from pyverbs.pyverbs_error import PyverbsRDMAError
    from pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
    from pyverbs.wr import SGE, RecvWR, SendWR
    import verbs_enums as e
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

SIZE, GRH, QKEY = 4096, 40, 0x11111111
INFINIBAND, ETHERNET = 1, 2
WC_GRH = 1


class End:
    def __init__(self, ctx, pd, qp_type):
        self.pd, self.ctx = pd, ctx
        self.memory = mmap.mmap(-1, SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.mr = MR(pd, SIZE, e.IBV_ACCESS_LOCAL_WRITE, address=self.address)
        self.cq = CQ(ctx, 16)
        cap = QPCap(max_send_wr=8, max_recv_wr=8, max_send_sge=1, max_recv_sge=1)
        init = QPInitAttr(qp_type=qp_type, scq=self.cq, rcq=self.cq, cap=cap, sq_sig_all=1)
        self.qp = QP(pd, init)

    def sge(self, length):
        return [SGE(self.address, length, self.mr.lkey)]

    def recv(self):
        self.qp.post_recv(RecvWR(num_sge=1, sg=self.sge(SIZE)))

    def poll(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            count, wcs = self.cq.poll(1)
            if count:
                return wcs[0]
        return None


def datagram(near, far, attr):
    """Sent by the path ATTR; the receiver's completion, or None."""
    ah = AH(near.pd, attr=attr)
    wr = SendWR(opcode=e.IBV_WR_SEND, num_sge=1, sg=near.sge(8), send_flags=e.IBV_SEND_SIGNALED)
    wr.set_wr_ud(ah, far.qp.qp_num, QKEY)
    near.qp.post_send(wr)
    assert near.poll(20).status == e.IBV_WC_SUCCESS
    wc = far.poll(0.3)
    ah.close()
    return wc


def datagrams(ctx, pd, lid, gid):
    near, far = End(ctx, pd, e.IBV_QPT_UD), End(ctx, pd, e.IBV_QPT_UD)
    for end in (near, far):
        attr = QPAttr(port_num=1)
        attr.qkey = QKEY
        end.qp.to_rts(attr)
    far.recv()
    far.recv()
    assert datagram(near, far, AHAttr(dlid=lid + 1, port_num=1)) is None, "the LID of nobody"
    wc = datagram(near, far, AHAttr(dlid=lid, port_num=1))
    assert wc and wc.status == e.IBV_WC_SUCCESS and wc.byte_len == GRH + 8, wc
    assert not wc.wc_flags & WC_GRH and wc.slid == lid and wc.sl == 0, wc
    grh = GlobalRoute(dgid=gid, sgid_index=0)
    wc = datagram(near, far, AHAttr(gr=grh, is_global=1, dlid=lid, port_num=1))
    assert wc and wc.wc_flags & WC_GRH and wc.slid == lid, wc
    header = bytes(far.memory[:GRH])
    assert header[0] >> 4 == 6 and header[6] == 0x1b and header[24:40] == header[8:24], header.hex()
    for wrong in (0, 0xc000, 0xffff):
        refused(lambda: AH(pd, attr=AHAttr(dlid=wrong, port_num=1)))


def connection(ctx, pd, dlid):
    near, far = End(ctx, pd, e.IBV_QPT_RC), End(ctx, pd, e.IBV_QPT_RC)
    for end, other in ((near, far), (far, near)):
        attr = QPAttr(port_num=1)
        attr.dest_qp_num = other.qp.qp_num
        attr.path_mtu = e.IBV_MTU_4096
        attr.min_rnr_timer, attr.timeout, attr.retry_cnt, attr.rnr_retry = 12, 10, 1, 7
        attr.ah_attr = AHAttr(dlid=dlid, port_num=1)
        end.qp.to_rts(attr)
    far.recv()
    near.qp.post_send(SendWR(opcode=e.IBV_WR_SEND, num_sge=1, sg=near.sge(8),
                             send_flags=e.IBV_SEND_SIGNALED))
    return near.poll(30).status


def refused(call):
    try:
        call()
    except PyverbsRDMAError as error:
        assert error.error_code in (errno.EINVAL, -errno.EINVAL), error
        return
    raise AssertionError("not refused")


def main():
    layer = {"infiniband": INFINIBAND, "ethernet": ETHERNET}[sys.argv[1]]
    ctx = Context(name="uodp0")
    port = ctx.query_port(1)
    pd = PD(ctx)
    assert port.link_layer == layer, port.link_layer
    if layer == ETHERNET:
        assert port.lid == 0 and port.gid_tbl_len == 2
        refused(lambda: AH(pd, attr=AHAttr(dlid=1, port_num=1)))
        refused(lambda: connection(ctx, pd, 1))
        return
    assert 0 < port.lid < 0xc000 and port.gid_tbl_len == 1, port
    datagrams(ctx, pd, port.lid, ctx.query_gid(1, 0))
    assert connection(ctx, pd, port.lid) == e.IBV_WC_SUCCESS
    assert connection(ctx, pd, port.lid + 1) == e.IBV_WC_RETRY_EXC_ERR
    refused(lambda: connection(ctx, pd, 0))


main()
