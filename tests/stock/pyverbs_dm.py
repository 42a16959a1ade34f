#!/usr/bin/python3
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
"""pyverbs on uodp0's device memory: allocation, copies, MRs, RDMA between two
allocations, in children of fork, and what is refused."""
import multiprocessing
import random
import sys
import time

try:
    from pyverbs.addr import AHAttr, GlobalRoute
    from pyverbs.cq import CQ
    from pyverbs.device import AllocDmAttr, Context, DM
    from pyverbs.mr import DMMR
    from pyverbs.pd import PD
    from pyverbs.pyverbs_error import PyverbsRDMAError
    from pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
    from pyverbs.wr import SGE, SendWR
    import verbs_enums as e
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

SIZE = 3 * 4096 + 100
RIGHTS = e.IBV_ACCESS_LOCAL_WRITE | e.IBV_ACCESS_REMOTE_WRITE | e.IBV_ACCESS_REMOTE_READ
ACCESS = RIGHTS | e.IBV_ACCESS_ZERO_BASED


def refused(what, errno, call):
    try:
        call()
    except PyverbsRDMAError as error:
        assert error.error_code == errno, f"{what}: errno {error.error_code}, not {errno}"
        return
    raise AssertionError(f"{what} was not refused")


class End:
    """A QP with its CQ and a piece of device memory."""

    def __init__(self, context, pd):
        self.dm = DM(context, AllocDmAttr(SIZE, random.randint(0, 6), 0))
        self.mr = DMMR(pd, SIZE, ACCESS, dm=self.dm, offset=0)
        self.cq = CQ(context, 8)
        cap = QPCap(max_send_wr=4, max_recv_wr=4, max_send_sge=1, max_recv_sge=1)
        init = QPInitAttr(qp_type=e.IBV_QPT_RC, scq=self.cq, rcq=self.cq, cap=cap, sq_sig_all=1)
        attr = QPAttr(port_num=1)
        attr.qp_access_flags = RIGHTS & ~e.IBV_ACCESS_LOCAL_WRITE
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

    def rdma(self, opcode, other):
        wr = SendWR(opcode=opcode, num_sge=1, sg=[SGE(0, SIZE, self.mr.lkey)],
                    send_flags=e.IBV_SEND_SIGNALED)
        wr.set_wr_rdma(other.mr.rkey, 0)
        self.qp.post_send(wr)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            count, completions = self.cq.poll(1)
            if count:
                assert completions[0].status == e.IBV_WC_SUCCESS, completions[0].status
                return
        raise AssertionError("no completion within 20 s")

    def close(self):
        self.qp.close()
        self.cq.close()
        self.mr.close()
        self.dm.close()


def alloc_in_child(context, size, answers):
    try:
        DM(context, AllocDmAttr(size, 0, 0))
        answers.put(0)
    except PyverbsRDMAError as error:
        answers.put(error.error_code)


def in_children(context, size):
    """Children of fork allocate at once, on the context that they have inherited."""
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()
    children = [fork.Process(target=alloc_in_child, args=(context, size, answers))
                for _ in range(5)]
    for child in children:
        child.start()
    for child in children:
        assert answers.get(timeout=60) == 0, "a child got no device memory"
    for child in children:
        child.join()


def main():
    context = Context(name="uodp0")
    most = context.query_device_ex().max_dm_size
    assert most > 0, "no device memory"
    pd = PD(context)
    refused("more than there is", 22, lambda: DM(context, AllocDmAttr(most + 1, 0, 0)))
    refused("a comp_mask", 22, lambda: DM(context, AllocDmAttr(64, 0, 3)))

    near, far = End(context, pd), End(context, pd)
    gid = context.query_gid(1, 1)
    near.connect(far, gid)
    far.connect(near, gid)
    assert far.mr.read(SIZE, 0) == bytes(SIZE), "it was not empty"
    data = random.randbytes(SIZE)
    near.mr.write(data, SIZE)
    near.rdma(e.IBV_WR_RDMA_WRITE, far)
    assert far.dm.copy_from_dm(0, SIZE) == data, "RDMA write: other data"
    data = random.randbytes(SIZE)
    far.dm.copy_to_dm(0, data, SIZE)
    near.rdma(e.IBV_WR_RDMA_READ, far)
    assert near.mr.read(SIZE, 0) == data, "RDMA read: other data"
    print("ok: RDMA")

    refused("a copy beyond its end", 14, lambda: far.dm.copy_to_dm(1, data, SIZE))
    refused("a copy of parts of words", 22, lambda: far.dm.copy_to_dm(2, data, 4))
    refused("an MR beyond its end", 22, lambda: DMMR(pd, SIZE, ACCESS, dm=far.dm, offset=1))
    refused("an MR that is not zero-based", 22, lambda: DMMR(pd, SIZE, RIGHTS, dm=far.dm, offset=0))
    in_children(context, most // 2)
    print("ok: children")
    near.close()
    far.close()
    pd.close()
    context.close()
    print("ok: refusals")


main()
