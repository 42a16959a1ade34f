#!/usr/bin/env python3
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
"""Run a command and check its exit status and its output.

usage: check_output.py [--status N] [--count N:REGEX]... [--match REGEX]... -- COMMAND...
"""
import argparse
import re
import shutil
import subprocess
import sys

SKIPPED = 77


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--status", type=int, default=0)
    parser.add_argument("--match", action="append", default=[])
    parser.add_argument("--no-match", action="append", default=[])
    parser.add_argument("--count", action="append", default=[], metavar="N:REGEX",
                        help="REGEX matches exactly N times")
    parser.add_argument("--need", default=[], action="append", help="skip without this program")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()

    for program in options.need:
        if not shutil.which(program):
            print(f"skipped: {program} is not installed")
            return SKIPPED
    try:
        done = subprocess.run(options.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=60, errors="replace")
    except subprocess.TimeoutExpired as timeout:
        print(timeout.stdout)
        print("FAILED: no end within 60 s")
        return 1
    if done.returncode == SKIPPED:
        print(done.stdout)
        return SKIPPED
    wrong = []
    if done.returncode != options.status:
        wrong.append(f"the exit status is {done.returncode}, not {options.status}")
    for pattern in options.match:
        if not re.search(pattern, done.stdout, re.M):
            wrong.append(f"/{pattern}/ was not printed")
    for pattern in options.no_match:
        if re.search(pattern, done.stdout, re.M):
            wrong.append(f"/{pattern}/ was printed")
    for count in options.count:
        number, pattern = count.split(":", 1)
        found = len(re.findall(pattern, done.stdout, re.M))
        if found != int(number):
            wrong.append(f"/{pattern}/ was printed {found} times, not {number}")
    if wrong:
        print(done.stdout)
    for line in wrong:
        print(f"FAILED: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
