#!/usr/bin/python3
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
"""pyverbs on uodp0: two RC QPs in loopback; RDMA write, read, send and atomic,
from and to pinned and ODP memory, with the data checked."""
import ctypes
import mmap
import sys
import time

try:
    from pyverbs.addr import AHAttr, GlobalRoute
    from pyverbs.cq import CQ
    from pyverbs.device import Context
    from pyverbs.mr import MR
    from pyverbs.pd import PD
    from pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
    from pyverbs.wr import SGE, RecvWR, SendWR
    import verbs_enums as e
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

SIZE = 3 * 65536 + 13
ACCESS = (e.IBV_ACCESS_LOCAL_WRITE | e.IBV_ACCESS_REMOTE_WRITE | e.IBV_ACCESS_REMOTE_READ |
          e.IBV_ACCESS_REMOTE_ATOMIC)


class End:
    """A QP with its CQ and one registered buffer."""

    def __init__(self, pd, kind):
        self.buffer = mmap.mmap(-1, SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.buffer))
        self.mr = MR(pd, SIZE, ACCESS | kind, address=self.address)
        self.cq = CQ(CONTEXT, 32)
        cap = QPCap(max_send_wr=16, max_recv_wr=16, max_send_sge=1, max_recv_sge=1)
        init = QPInitAttr(qp_type=e.IBV_QPT_RC, scq=self.cq, rcq=self.cq, cap=cap, sq_sig_all=1)
        attr = QPAttr(port_num=1)
        attr.qp_access_flags = ACCESS & ~e.IBV_ACCESS_LOCAL_WRITE
        self.qp = QP(pd, init, attr)

    def connect(self, other, gid):
        attr = QPAttr(port_num=1)
        attr.dest_qp_num = other.qp.qp_num
        attr.path_mtu = e.IBV_MTU_4096
        attr.max_rd_atomic = attr.max_dest_rd_atomic = 4
        attr.min_rnr_timer = 12
        attr.timeout, attr.retry_cnt, attr.rnr_retry = 14, 7, 7
        attr.ah_attr = AHAttr(gr=GlobalRoute(dgid=gid, sgid_index=1), is_global=1, port_num=1)
        self.qp.to_rts(attr)

    def completion(self, opcode, length=None):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            count, completions = self.cq.poll(1)
            if count:
                wc = completions[0]
                assert wc.status == e.IBV_WC_SUCCESS, f"status {wc.status}"
                assert wc.opcode == opcode, f"opcode {wc.opcode}, not {opcode}"
                assert length is None or wc.byte_len == length, f"{wc.byte_len} bytes"
                return
        raise AssertionError("no completion within 20 s")

    def post(self, opcode, remote=None, length=SIZE, compare_add=None):
        sge = SGE(self.address, length, self.mr.lkey)
        wr = SendWR(opcode=opcode, num_sge=1, sg=[sge], send_flags=e.IBV_SEND_SIGNALED)
        if compare_add is not None:
            wr.set_wr_atomic(remote.mr.rkey, remote.address, compare_add, 0)
        elif remote is not None:
            wr.set_wr_rdma(remote.mr.rkey, remote.address)
        self.qp.post_send(wr)


def pattern(seed):
    return bytes((i * 7 + i // 251 + seed) & 255 for i in range(SIZE))


def run(pd, gid, near_kind, far_kind):
    near, far = End(pd, near_kind), End(pd, far_kind)
    near.connect(far, gid)
    far.connect(near, gid)

    near.buffer[:] = pattern(1)
    near.post(e.IBV_WR_RDMA_WRITE, far)
    near.completion(e.IBV_WC_RDMA_WRITE)
    assert far.buffer[:] == pattern(1), "RDMA write: other data"

    far.buffer[:] = pattern(2)
    near.post(e.IBV_WR_RDMA_READ, far)
    near.completion(e.IBV_WC_RDMA_READ)
    assert near.buffer[:] == pattern(2), "RDMA read: other data"

    near.buffer[:] = pattern(3)
    far.qp.post_recv(RecvWR(num_sge=1, sg=[SGE(far.address, SIZE, far.mr.lkey)]))
    near.post(e.IBV_WR_SEND)
    near.completion(e.IBV_WC_SEND)
    far.completion(e.IBV_WC_RECV, SIZE)
    assert far.buffer[:] == pattern(3), "send: other data"

    far.buffer[:8] = (1 << 40).to_bytes(8, sys.byteorder)
    near.post(e.IBV_WR_ATOMIC_FETCH_AND_ADD, far, 8, 5)
    near.completion(e.IBV_WC_FETCH_ADD)
    assert int.from_bytes(near.buffer[:8], sys.byteorder) == 1 << 40, "atomic: old value"
    assert int.from_bytes(far.buffer[:8], sys.byteorder) == (1 << 40) + 5, "atomic: new value"

    for end in (near, far):
        end.qp.close()
        end.cq.close()
        end.mr.close()


CONTEXT = Context(name="uodp0")


def main():
    pd = PD(CONTEXT)
    gid = CONTEXT.query_gid(1, 1)
    kinds = {"pinned": 0, "odp": e.IBV_ACCESS_ON_DEMAND}
    for near, near_kind in kinds.items():
        for far, far_kind in kinds.items():
            run(pd, gid, near_kind, far_kind)
            print(f"ok: {near} to {far}", flush=True)
    pd.close()
    CONTEXT.close()


main()
