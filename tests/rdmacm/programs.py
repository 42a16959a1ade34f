#!/usr/bin/env python3
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
"""Run a server and a client that connect through librdmacm, both under uodprun.

usage: programs.py --uodprun PATH [option...] --server COMMAND --client COMMAND

Passes when the client ends with status 0, its output has every --match and no
--no-match, and the server ends with --server-status, or is still waiting for the next
client ("stays"), when it is ended. Skips when one of the programs is not installed.
"""
import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SKIPPED = 77


def start(uodprun, command, env, path):
    with open(path, "wb") as out:
        return subprocess.Popen([uodprun, "sh", "-c", command], stdin=subprocess.DEVNULL,
                                stdout=out, stderr=subprocess.STDOUT, env=env,
                                start_new_session=True)


def end(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def text(path):
    with open(path, errors="replace") as f:
        return f.read()


def listens(directory):
    """Is somebody's service being listened on? A record's flags are at 36 of its 64 bytes."""
    try:
        with open(os.path.join(directory, "cm", "services"), "rb") as f:
            data = f.read()
    except OSError:
        return False
    first = 64 + 8192 * 4
    return any(data[at + 36] & 3 == 3 for at in range(first, len(data) - 63, 64))


def run(args, directory, log):
    env = dict(os.environ, UODP_DIR=directory)
    server = start(args.uodprun, args.server, env, log("server"))
    deadline = time.monotonic() + args.timeout
    if args.port:
        time.sleep(0.5)  # it listens with a socket of its own
    while not args.port and not listens(directory) and server.poll() is None:
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    client = start(args.uodprun, args.client, env, log("client"))
    try:
        status = client.wait(max(1, deadline - time.monotonic()))
        if args.server_status == "stays":
            server_status = "stays" if server.poll() is None else server.returncode
        else:
            server_status = str(server.wait(max(1, deadline - time.monotonic())))
    except subprocess.TimeoutExpired:
        status = server_status = "timed out"
    finally:
        end(client)
        end(server)
    output = text(log("client")) + (text(log("server")) if args.both else "")
    failures = []
    if status != 0:
        failures.append("the client's status is %s" % status)
    if str(server_status) != args.server_status:
        failures.append("the server's status is %s, expected %s" %
                        (server_status, args.server_status))
    failures += ["no /%s/" % m for m in args.match if not re.search(m, output, re.M)]
    failures += ["has /%s/" % m for m in args.no_match if re.search(m, output, re.M)]
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uodprun", required=True)
    parser.add_argument("--server", required=True)
    parser.add_argument("--client", required=True)
    parser.add_argument("--server-status", default="0")
    parser.add_argument("--match", action="append", default=[])
    parser.add_argument("--no-match", action="append", default=[])
    parser.add_argument("--both", action="store_true", help="match the server's output too")
    parser.add_argument("--port", action="store_true",
                        help="the server listens by a socket first")
    parser.add_argument("--timeout", type=float, default=60)
    args = parser.parse_args()
    args.server = args.server.replace("%3b", ";")
    args.client = args.client.replace("%3b", ";")
    for command in (args.server, args.client):
        program = next(w for w in shlex.split(command) if "=" not in w)
        if not shutil.which(program):
            print("skip: %s is not installed" % program)
            return SKIPPED
    with tempfile.TemporaryDirectory(prefix="uodp-cm.") as directory:
        def log(name):
            return os.path.join(directory, name + ".log")
        failures = run(args, directory, log)
        for failure in failures:
            print("FAIL: " + failure)
        if failures:
            for name in "server", "client":
                print("---- %s\n%s" % (name, text(log(name))[-4000:]))
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
