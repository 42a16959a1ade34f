#!/usr/bin/env python3
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
"""Run other people's software on uodp0, and say what passed.

usage: run.py --uodprun PATH [--quick] [SUITE...]

Suites: python (rdma-core's own tests), ucx, mpi (Open MPI over UCX), diags
(infiniband-diags), qperf. Without names all of them run. --quick takes less of each:
what ctest runs. The exit status is 1 when something failed, 77 when nothing ran.
"""
import argparse
import collections
import glob
import gzip
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
DOC_TESTS = "/usr/share/doc/rdma-core/tests"
# What a skip of rdma-core's tests may be for: other vendors' devices, graphics, raw
# packets, and what this host has not.
FOREIGN = re.compile(r"MLX5|mlx5|EFA|CUDA|cuda|/dev/dri|Raw Packet|PCI device|huge pages|"
                     r"gid indices|QP type 8")


class Suite:
    def __init__(self, name):
        self.name = name
        self.passed = 0
        self.failed = []
        self.skipped = collections.Counter()

    def result(self, what, ok, output=""):
        if ok:
            self.passed += 1
        else:
            self.failed.append(what)
            print("FAIL: %s: %s\n%s" % (self.name, what, output[-3000:]))


class Runner:
    def __init__(self, uodprun, quick):
        self.uodprun = uodprun
        self.quick = quick

    def run(self, command, timeout=120, env=None, cwd=None, directory=None):
        """Status and output of COMMAND, in a run directory of its own."""
        own = directory or tempfile.mkdtemp(prefix="uodp-conf.")
        full = dict(os.environ, UODP_DIR=own, **(env or {}))
        try:
            p = subprocess.run([self.uodprun] + command, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=full,
                               cwd=cwd, timeout=timeout, text=True, errors="replace")
            return p.returncode, p.stdout
        except subprocess.TimeoutExpired as e:
            out = e.stdout or b""
            return 124, out.decode(errors="replace") if isinstance(out, bytes) else out
        finally:
            if not directory:
                shutil.rmtree(own, ignore_errors=True)

    def pair(self, server, client, env=None, timeout=60):
        """The client's status and output; the server is ended after it."""
        with tempfile.TemporaryDirectory(prefix="uodp-conf.") as own:
            full = dict(os.environ, UODP_DIR=own, **(env or {}))
            with open(os.path.join(own, "server.log"), "wb") as log:
                p = subprocess.Popen([self.uodprun] + server, stdin=subprocess.DEVNULL,
                                     stdout=log, stderr=subprocess.STDOUT, env=full)
            try:
                for _ in range(100):
                    status, out = self.run(client, timeout, env, directory=own)
                    if not re.search(r"onnection refused|failed to connect|ailed to setup "
                                     r"connection", out) or p.poll() is not None:
                        break
                    time.sleep(0.1)
                with open(os.path.join(own, "server.log"), errors="replace") as log:
                    return status, out + ("" if not status else "\n-- server:\n" + log.read())
            finally:
                p.kill()
                p.wait()


def missing(suite, *programs):
    for program in programs:
        if not shutil.which(program):
            suite.skipped["%s is not installed" % program] += 1
            return True
    return False


def unpack(directory):
    tests = os.path.join(directory, "tests")
    os.mkdir(tests)
    for path in glob.glob(DOC_TESTS + "/*"):
        name = os.path.basename(path)
        if name.endswith(".gz"):
            with gzip.open(path) as f, open(os.path.join(tests, name[:-3]), "wb") as out:
                shutil.copyfileobj(f, out)
        elif os.path.isfile(path):
            shutil.copy(path, tests)


def suite_python(r):
    s = Suite("rdma-core's Python tests")
    if not os.path.isdir(DOC_TESTS):
        s.skipped["%s is missing: package rdma-core" % DOC_TESTS] += 1
        return s
    with tempfile.TemporaryDirectory(prefix="uodp-conf.") as directory:
        unpack(directory)
        _, out = r.run(["/usr/bin/python3", "tests/run_tests.py", "-v", "--dev", "uodp0"], 600,
                       cwd=directory)
    ran = re.search(r"^Ran (\d+) tests", out, re.M)
    s.failed = re.findall(r"^(?:ERROR|FAIL): (.*)$", out, re.M)
    s.skipped.update(re.findall(r"skipped ['\"](.*)['\"]", out))
    if ran:
        s.passed = int(ran.group(1)) - len(s.failed) - sum(s.skipped.values())
    if not ran or s.failed:
        s.failed = s.failed or ["the run did not end"]
        print(out[-6000:])
    return s


def suite_ucx(r):
    s = Suite("UCX")
    if missing(s, "ucx_info", "ucx_perftest"):
        return s
    env = {"UCX_NET_DEVICES": "uodp0:1"}
    status, out = r.run(["ucx_info", "-d"], env=env)
    for transport in "rc_verbs", "ud_verbs":
        s.result("ucx_info lists " + transport, transport in out, out)
    tests = ["tag_lat", "tag_bw", "ucp_put_bw", "ucp_get", "ucp_am_bw", "stream_bw", "ucp_add",
             "ucp_cswap"]
    sizes = {"ucp_add": ["8"], "ucp_cswap": ["8"]}
    variants = [{}, {"UCX_IB_REG_METHODS": "odp"}]
    port = 13400
    for tls in "rc_v", "ud_v", "rc_v,ud_v":
        for test in tests[:3] if r.quick else tests:
            for size in sizes.get(test, ["1", "65536"] if r.quick
                                  else ["1", "4096", "1048576", "67108864"]):
                for variant in variants[:1] if r.quick else variants:
                    port += 1
                    n = "20" if int(size) > 100000 else "300"
                    status, out = r.pair(["ucx_perftest", "-p", str(port)],
                                         ["ucx_perftest", "-p", str(port), "127.0.0.1", "-t",
                                          test, "-s", size, "-n", n, "-w", "10"],
                                         dict(env, UCX_TLS=tls + ",self", **variant))
                    s.result("%s %s %s %s" % (tls, test, size, variant or ""),
                             status == 0 and "Final:" in out, out)
    return s


def suite_mpi(r):
    s = Suite("Open MPI over UCX")
    if missing(s, "mpicc", "mpirun"):
        return s
    with tempfile.TemporaryDirectory(prefix="uodp-conf.") as directory:
        program = os.path.join(directory, "mpi_check")
        subprocess.run(["mpicc", "-O1", "-o", program, os.path.join(HERE, "mpi_check.c")],
                       check=True)
        for tls in "rc_v", "ud_v":
            for ranks in ("2",) if r.quick else ("2", "4"):
                env = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                       "UCX_NET_DEVICES": "uodp0:1", "UCX_TLS": tls + ",self",
                       "UCX_LOG_LEVEL": "info"}
                status, out = r.run(["mpirun", "--oversubscribe", "-np", ranks, "--mca", "pml",
                                     "ucx", "--mca", "osc", "ucx", "--mca", "btl",
                                     "^openib,vader,tcp", program], 200, env)
                s.result("%s, %s ranks" % (tls, ranks),
                         status == 0 and "all checked: %s ranks" % ranks in out and
                         "/uodp0:1" in out, out)
    return s


def suite_diags(r):
    s = Suite("infiniband-diags")
    if missing(s, "ibstat", "ibstatus"):
        return s
    status, out = r.run(["ibstat"])
    s.result("ibstat", status == 0 and "State: Active" in out, out)
    status, out = r.run(["ibstatus"])
    s.result("ibstatus", status == 0 and "4: ACTIVE" in out, out)
    status, out = r.run(["ibstat", "-l"])
    s.result("ibstat -l", status == 0 and out.split() == ["uodp0"], out)
    return s


def suite_qperf(r):
    s = Suite("qperf")
    if missing(s, "qperf"):
        return s
    tests = ["rc_lat", "rc_bw", "rc_rdma_read_bw", "rc_rdma_write_lat", "rc_compare_swap_mr",
             "rc_fetch_add_mr", "uc_lat", "uc_bw", "uc_rdma_write_bw", "ud_lat", "ud_bw"]
    port = 19765
    for test in tests[:3] if r.quick else tests:
        port += 1
        status, out = r.pair(["qperf", "-lp", str(port)],
                             ["qperf", "-lp", str(port), "-cm1", "-t", "1", "127.0.0.1", test])
        s.result(test, status == 0 and test.split("_")[0] in out, out)
    return s


SUITES = {"python": suite_python, "ucx": suite_ucx, "mpi": suite_mpi, "diags": suite_diags,
          "qperf": suite_qperf}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uodprun", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("suites", nargs="*", choices=[[]] + list(SUITES), metavar="SUITE")
    args = parser.parse_args()
    r = Runner(os.path.abspath(args.uodprun), args.quick)
    results = []
    for name in args.suites or SUITES:
        if sys.stderr.isatty():
            sys.stderr.write("running %s ...\n" % name)
        results.append(SUITES[name](r))
    print("\n%-28s %7s %7s %8s" % ("suite", "passed", "failed", "skipped"))
    for s in results:
        print("%-28s %7d %7d %8d" % (s.name, s.passed, len(s.failed),
                                     sum(s.skipped.values())))
    for s in results:
        for why, n in s.skipped.most_common():
            print("%s: skipped %d: %s%s" % (s.name, n, why,
                                            "" if FOREIGN.search(why) else "  (ours)"))
    if any(s.failed for s in results):
        return 1
    return 0 if any(s.passed for s in results) else 77


if __name__ == "__main__":
    sys.exit(main())
