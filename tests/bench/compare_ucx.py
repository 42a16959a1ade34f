#!/usr/bin/env python3
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
"""Set uodp0's latency and bandwidth against UCX's over shared memory.

usage: compare_ucx.py [--rounds N] BIN-DIRECTORY

perftest under uodprun and ucx_perftest run in turn, N times each; the medians
are compared. Latencies are one way, for 8 bytes; bandwidths for 64 KiB. Exit
status 1 when uodp0 is slower than the limits allow, 77 when a program is missing.
"""
import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "stock"))
from run_pair import HOST, port_listens, port_pick  # noqa: E402

TIMEOUT = 60


def pair(server, client, port, env):
    """The client's output; both must succeed."""
    first = subprocess.Popen(server, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, env=env)
    try:
        deadline = time.monotonic() + TIMEOUT
        while not port_listens(port):
            if first.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{' '.join(server)}: does not listen")
            time.sleep(0.01)
        done = subprocess.run(client, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, env=env, timeout=TIMEOUT, text=True)
        if done.returncode or first.wait(TIMEOUT):
            sys.exit(f"{' '.join(client)}: failed\n{done.stdout}")
        return done.stdout
    finally:
        if first.poll() is None:
            first.kill()
            first.wait()


def numbers(output):
    """The fields of the last line that consists of numbers alone."""
    for line in reversed(output.splitlines()):
        fields = line.split()
        try:
            values = [float(f) for f in fields]
        except ValueError:
            continue
        if len(values) > 3:
            return values
    sys.exit(f"no line of results in\n{output}")


def verbs(bin_directory, env, program, *arguments):
    port = port_pick()
    command = [os.path.join(bin_directory, "uodprun"), program, "-F", "-d", "uodp0", "-x", "1",
               *arguments, "-p", str(port)]
    return numbers(pair(command, command + [HOST], port, env))


def ucx(env, *arguments):
    port = port_pick()
    return numbers(pair(["ucx_perftest", "-p", str(port)],
                        ["ucx_perftest", HOST, "-p", str(port), "-f", *arguments], port, env))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("bin", help="the folder of uodprun")
    options = parser.parse_args()
    for program in ("ucx_perftest", "ib_write_lat", "ib_write_bw"):
        if not shutil.which(program):
            print(f"skipped: {program} is not installed")
            return 77

    with tempfile.TemporaryDirectory(prefix="uodp-bench.") as directory:
        env = dict(os.environ, UODP_DIR=os.path.join(directory, "run"), UCX_LOG_LEVEL="error")
        results = {"verbs_lat": [], "ucx_lat": [], "verbs_bw": [], "ucx_bw": [], "odp_bw": []}
        for _ in range(options.rounds):
            # Columns of perftest: size, iterations, minimum, maximum, median ...
            results["verbs_lat"].append(
                verbs(options.bin, env, "ib_write_lat", "-s", "8", "-n", "100000")[4])
            results["ucx_lat"].append(
                ucx(env, "-t", "tag_lat", "-s", "8", "-n", "200000", "-w", "10000")[1])
            # ... size, iterations, peak, average MiB/s; ucx_perftest prints MiB/s too.
            results["verbs_bw"].append(
                verbs(options.bin, env, "ib_write_bw", "-s", "65536", "-n", "20000")[3])
            results["odp_bw"].append(
                verbs(options.bin, env, "ib_write_bw", "-s", "65536", "-n", "20000", "--odp")[3])
            results["ucx_bw"].append(
                ucx(env, "-t", "tag_bw", "-s", "65536", "-n", "20000")[5])
    median = {name: statistics.median(values) for name, values in results.items()}

    latency = median["verbs_lat"] / median["ucx_lat"]
    bandwidth = median["verbs_bw"] / median["ucx_bw"]
    print(f"8 B latency, us:        ib_write_lat {median['verbs_lat']:.3f}, "
          f"tag_lat {median['ucx_lat']:.3f}: {latency:.2f} times (limit: 2)")
    print(f"64 KiB bandwidth, MB/s: ib_write_bw {median['verbs_bw']:.0f}, "
          f"tag_bw {median['ucx_bw']:.0f}: {bandwidth:.2f} times (limit: 1)")
    print(f"64 KiB on demand, MB/s: ib_write_bw --odp {median['odp_bw']:.0f}: "
          f"{median['odp_bw'] / median['verbs_bw']:.2f} times pinned")
    return 0 if latency < 2 and bandwidth > 1 else 1


if __name__ == "__main__":
    sys.exit(main())
