#!/usr/bin/env python3
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
"""Run a verbs program as server and as client, both under uodprun.

usage: run_pair.py [options] --uodprun PATH -- PROGRAM [ARGUMENT...]

The client is the same command with the server's address at its end. Both get
a free TCP port with -p, and a run directory of their own. The test passes when
both end in time, with the expected exit status and output.
"""
import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

SKIPPED = 77
HOST = "127.0.0.1"


def port_free(port):
    for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                s.bind((host, port))
        except OSError:
            if family == socket.AF_INET6 and not os.path.exists("/proc/net/tcp6"):
                continue
            return False
    return True


def port_pick():
    """A free port below the ephemeral range; it differs from process to process."""
    first = 15000 + os.getpid() * 7 % 15000
    for i in range(15000):
        port = 15000 + (first + i) % 15000
        if port_free(port):
            return port
    raise OSError("no free TCP port")


def port_listens(port):
    """Looks at the kernel's table: connecting would use up the server's accept()."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as f:
                lines = f.readlines()[1:]
        except OSError:
            continue
        for line in lines:
            field = line.split()
            if field[3] == "0A" and int(field[1].rsplit(":", 1)[1], 16) == port:
                return True
    return False


class Side:
    """One of the two processes, with its output in files."""

    def __init__(self, name, command, env, directory):
        self.name = name
        self.command = command
        self.path = os.path.join(directory, name)
        with open(self.path, "wb") as out:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                env=env, cwd=directory, start_new_session=True)

    def output(self):
        with open(self.path, errors="replace") as f:
            return f.read()

    def wait(self, deadline):
        try:
            self.process.wait(max(0, deadline - time.monotonic()))
            return True
        except subprocess.TimeoutExpired:
            return False

    def kill(self):
        if self.process.poll() is None:
            # The group is led by the child that this object started.
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def report(self):
        print(f"---- {self.name}: {' '.join(self.command)}")
        print(self.output().rstrip())
        print(f"---- {self.name}: exit status {self.process.poll()}")


def rows(output):
    """Message sizes in perftest's table: lines of numbers alone."""
    sizes = []
    for line in output.splitlines():
        fields = line.split()
        if len(fields) >= 4 and all(re.fullmatch(r"[0-9.]+(e[+-]?[0-9]+)?", f) for f in fields):
            sizes.append(int(float(fields[0])))
    return sizes


def check(options, server, client):
    """The list of what is wrong."""
    wrong = []
    for side in (server, client):
        if side is None:
            continue
        status = side.process.returncode
        if status != options.status:
            wrong.append(f"the {side.name}'s exit status is {status}, not {options.status}")
        if options.match and not re.search(options.match, side.output()):
            wrong.append(f"the {side.name} did not print /{options.match}/")
        if options.no_match and re.search(options.no_match, side.output()):
            wrong.append(f"the {side.name} printed /{options.no_match}/")
    if options.sizes and client is not None:
        first, last = (int(n) for n in options.sizes.split(":"))
        want = [1 << n for n in range(first.bit_length() - 1, last.bit_length())]
        if rows(client.output()) != want:
            wrong.append(f"the client's table has the sizes {rows(client.output())}")
    return wrong


def program_knows(program, option):
    done = subprocess.run([program, "--help"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    return re.search(rb"(^|[\s,])" + re.escape(option.encode()) + rb"\b", done.stdout) is not None


def run(options, directory, started):
    env = dict(os.environ, UODP_DIR=os.path.join(directory, "run"))
    env.update(pair.split("=", 1) for pair in options.env)
    deadline = time.monotonic() + options.timeout
    port = port_pick()
    command = [options.uodprun, *options.command, "-p", str(port)]

    server = Side("server", command, env, directory)
    started.append(server)
    while not port_listens(port):
        if server.process.poll() is not None:
            # Refused before it listened; a test may expect just that.
            return check(options, server, None) or (
                [] if options.status else ["the server ended before it listened"])
        if time.monotonic() > deadline:
            return ["the server did not listen in time"]
        time.sleep(0.01)
    client = Side("client", command + [HOST], env, directory)
    started.append(client)
    for side in (client, server):
        if not side.wait(deadline):
            return [f"the {side.name} did not end within {options.timeout} s"]
    return check(options, server, client)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--uodprun", required=True)
    parser.add_argument("--timeout", type=float, default=60)
    parser.add_argument("--status", type=int, default=0, help="expected exit status of both")
    parser.add_argument("--match", help="regular expression that both print")
    parser.add_argument("--no-match", help="regular expression that neither prints")
    parser.add_argument("--sizes", help="FIRST:LAST message size of perftest's table")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--if-known", action="append", default=[], metavar="OPTION",
                        help="give OPTION to a program whose --help names it")
    parser.add_argument("--verbose", action="store_true", help="print the outputs in any case")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()

    if not shutil.which(options.command[0]):
        print(f"skipped: {options.command[0]} is not installed")
        return SKIPPED
    for option in options.if_known:
        if program_knows(options.command[0], option):
            options.command.append(option)
    options.uodprun = os.path.abspath(options.uodprun)
    started = []
    directory = tempfile.mkdtemp(prefix="uodp-pair.")
    try:
        wrong = run(options, directory, started)
        for side in started:
            side.kill()
        if wrong or options.verbose:
            for side in started:
                side.report()
        for line in wrong:
            print(f"FAILED: {line}")
        return 1 if wrong else 0
    finally:
        for side in started:
            side.kill()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
