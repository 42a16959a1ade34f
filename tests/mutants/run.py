#!/usr/bin/env python3
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
"""Usage: run.py [--list] [NAME...]

Breaks the code on purpose, one mutation of list.py at a time, in a copy of the tree that
it builds for itself, and runs the tests that must notice. Exit status 1: a test passed
all the same, failed without any mutation, or a mutation can no longer be applied.
"""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

TIMEOUT_S = 60  # a test that hangs has noticed

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True
from list import MUTANTS  # noqa: E402


def copy_tree(to):
    files = subprocess.run(["git", "-C", TOP, "ls-files", "-coz",
                            "--exclude-standard"], check=True,
                           stdout=subprocess.PIPE).stdout.split(b"\0")
    for name in filter(None, map(os.fsdecode, files)):
        target = os.path.join(to, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.exists(os.path.join(TOP, name)):  # else deleted, and not yet committed
            shutil.copy2(os.path.join(TOP, name), target, follow_symlinks=False)


def build(tree):
    if not os.path.exists(tree + "/build/CMakeCache.txt"):
        generator = ["-G", "Ninja"] if shutil.which("ninja") else []
        subprocess.run(["cmake", "-S", tree, "-B", tree + "/build"] + generator, check=True,
                       stdout=subprocess.DEVNULL)
    done = subprocess.run(["cmake", "--build", tree + "/build", "--parallel", "2"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.stdout.write(done.stdout[-4000:])
    return done.returncode == 0


def passes(tree, test):
    """None: there is no such test, or it was skipped."""
    with subprocess.Popen(["ctest", "--test-dir", tree + "/build",
                           "-R", "^" + re.escape(test) + "$"], start_new_session=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as ctest:
        try:
            output = ctest.communicate(timeout=TIMEOUT_S)[0]
        except subprocess.TimeoutExpired:
            os.killpg(ctest.pid, signal.SIGKILL)  # what it started, too
            return False
    if "No tests were found" in output or "***Skipped" in output:
        return None
    return ctest.returncode == 0


class Applied:
    """The edits of a mutant, until the end of a with block."""

    def __init__(self, tree, mutant):
        self.tree, self.mutant, self.saved = tree, mutant, {}

    def __enter__(self):
        self.why = None
        for name, old, new in self.mutant.edits:
            path = os.path.join(self.tree, name)
            try:
                with open(path) as file:
                    text = file.read()
            except OSError as error:
                self.why = f"{name}: {error.strerror}"
                break
            if text.count(old) != 1:
                self.why = f"{name}: stands there {text.count(old)} times, not once: {old.strip()}"
                break
            self.saved.setdefault(path, text)
            with open(path, "w") as file:
                file.write(text.replace(old, new))
        return self

    def __exit__(self, *exc):
        for path, text in self.saved.items():
            with open(path, "w") as file:
                file.write(text)


def run(tree, mutant):
    """The number of things that are wrong."""
    with Applied(tree, mutant) as applied:
        if applied.why:
            print(f"FAIL {mutant.name}: no longer applies: {applied.why}")
            return 1
        if not build(tree):
            print(f"FAIL {mutant.name}: does not build")
            return 1
        wrong = 0
        for test in mutant.tests:
            result = passes(tree, test)
            if result is None:
                print(f"FAIL {mutant.name}: {test} did not run")
            elif result:
                print(f"FAIL {mutant.name}: {test} does not notice that {mutant.breaks}")
            else:
                print(f"ok   {mutant.name}: {test} fails")
            wrong += result is not False
            sys.stdout.flush()
        return wrong


def main():
    # The copy goes away however this ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    names = sys.argv[1:]
    if names == ["--list"]:
        for mutant in MUTANTS:
            print(f"{mutant.name:20} {mutant.breaks} ({', '.join(mutant.tests)})")
        return 0
    unknown = set(names) - {mutant.name for mutant in MUTANTS}
    if unknown:
        print(f"run.py: no mutation: {' '.join(sorted(unknown))} (see --list)", file=sys.stderr)
        return 2
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    tree = tempfile.mkdtemp(prefix="uodp-mutants.", dir=os.environ.get("TMPDIR"))
    try:
        copy_tree(tree)
        if not build(tree):
            return 1
        wrong = 0
        for test in sorted({test for mutant in chosen for test in mutant.tests}):
            if not passes(tree, test):
                print(f"FAIL {test} does not pass, or is skipped, without a mutation")
                wrong += 1
        wrong += sum(run(tree, mutant) for mutant in chosen)
    finally:
        shutil.rmtree(tree)
    print(f"{len(chosen)} mutations, {wrong} failures")
    return 1 if wrong else 0


sys.exit(main())
