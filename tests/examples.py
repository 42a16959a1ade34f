#!/usr/bin/env python3
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
"""Run what README.md and the manual show, as they print it.

usage: examples.py SOURCE-DIRECTORY BUILD-DIRECTORY COMPILER

Commands are run, a page's in one directory and in their order, and must end with
status 0; where a page prints a command's output behind its "$ ", that must be what
comes. Examples in C are compiled. The devices are uodp's, those named rxe0 too.
"""
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

SKIPPED = 77
SECONDS = 300  # an example
# Whoever runs this is called by the first, and the second is a demo of what is run here.
LEFT_OUT = {"./build.sh test", "./build.sh demo"}
# What root does to the host: odpctl/user tries it on a device file of its own.
ROOTS = re.compile("setfacl .*/dev/userfaultfd|echo .*>/etc/udev/rules.d/")
# Packages that an example needs and uodp does not.
NEEDS = {"jq": "jq", "ib_write_bw": "perftest", "ib_write_lat": "perftest",
         "rping": "rdmacm-utils", "qperf": "qperf", "ibv_devinfo": "ibverbs-utils",
         "ibv_rc_pingpong": "ibverbs-utils", "fusermount3": "fuse3"}
# What the examples in C take for granted.
C_FRONT = """
#include <errno.h>
#include <stdio.h>
#include <unistd.h>
#include <infiniband/verbs.h>
#include <infiniband/uodpdv.h>
#include <odp/odp.h>
extern struct odp_span dst, src;
extern struct ibv_pd *pd;
extern struct ibv_mr *mr;
extern struct uodpdv_fault_queue *queue;
extern struct odp_watch *watch;
extern void *buf;
extern uint64_t ino, new_size;
extern int backing_fd;
extern size_t size, length;
void fill_page(void *page);
int example(void);
int example(void)
{
"""


def plain(line):
    """A line of a page's source as groff prints it in a block of code."""
    for escape, char in ((r"\-", "-"), (r"\(aq", "'"), (r"\(dq", '"'), (r"\&", ""),
                         (r"\fR", ""), (r"\fI", ""), (r"\fB", ""), (r"\e", "\\")):
        line = line.replace(escape, char)
    return line


def page_blocks(path):
    """The blocks of the section EXAMPLES, and of .EX anywhere."""
    blocks, block, section = [], None, ""
    for line in open(path, encoding="utf-8").read().splitlines():
        if line.startswith(".SH"):
            section = line[4:].strip()
        if line == ".EX" or (line == ".nf" and section == "EXAMPLES"):
            block = []
        elif line in (".EE", ".fi"):
            if block:
                blocks.append(block)
            block = None
        elif block is not None:
            block.append(plain(line))
    return blocks


def readme_blocks(path):
    """Indented blocks whose lines are all commands."""
    text = open(path, encoding="utf-8").read()
    blocks = [[line[4:] for line in b.strip("\n").splitlines()]
              for b in re.split(r"\n\s*\n", text) if b.lstrip("\n").startswith("    ")]
    command = re.compile(r"(\S+=\S+ )*(build/bin/|\./|back=|truncate |fusermount3 )")
    return [b for b in blocks if all(command.match(line) for line in b)]


def readme_table(path):
    """The options that README names for its table, and the table's rows."""
    text = open(path, encoding="utf-8").read()
    rows = re.findall(r"^    ([* ] (?:memfd|file) .*)$", text, re.M)
    options = re.search(r"`odpcmp (--kind=[^`]*)`", text)
    assert len(rows) > 10 and options, "README's table is not where it was"
    return options[1].replace("\n", " "), rows


def is_c(block):
    return any(line.rstrip().endswith((";", "{")) for line in block)


class Place:
    """Where a page's examples run: a directory with the build in it."""

    def __init__(self, source, build):
        self.path = tempfile.mkdtemp(prefix="uodp-examples.")
        self.build = build
        os.symlink(build, os.path.join(self.path, "build"))
        answers = os.path.join(source, "tests", "rxe", "answers")
        for name in os.listdir(answers):
            os.symlink(os.path.join(answers, name), os.path.join(self.path, "rxe-" + name))
        os.mkdir(os.path.join(self.path, "run"), 0o700)

    def shell(self, script):
        """Its status and output."""
        tools = os.path.join(self.build, "bin")
        env = dict(os.environ, UODP_DIR=os.path.join(self.path, "run"),
                   PATH=tools + ":" + os.environ["PATH"])
        command = [os.path.join(tools, "uodprun"), "--devices=uodp0,rxe0",
                   "bash", "-e", "-o", "pipefail", "-c", script]
        with subprocess.Popen(command, cwd=self.path, env=env, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", start_new_session=True) as p:
            try:
                out, _ = p.communicate(timeout=SECONDS)
                return p.returncode, out
            except subprocess.TimeoutExpired:
                os.killpg(p.pid, signal.SIGKILL)
                out, _ = p.communicate()
                return f"none after {SECONDS} s", out

    def remove(self):
        shutil.rmtree(self.path)


class Judge:
    def __init__(self, source, build, compiler):
        self.source, self.build, self.compiler = source, build, compiler
        self.ran = self.failed = self.skipped = 0

    def fail(self, name, why, output):
        self.failed += 1
        print(f"FAIL {name}: {why}")
        print("    " + output.rstrip().replace("\n", "\n    "))

    def missing(self, script):
        return sorted({NEEDS[w] for w in re.findall(r"[\w-]+", script)
                       if w in NEEDS and not shutil.which(w)})

    def run(self, name, place, script, expected=()):
        if missing := self.missing(script):
            self.skipped += 1
            print(f"skip {name}: needs {', '.join(missing)}: {script}")
            return
        self.ran += 1
        status, out = place.shell(script)
        # 1: what is shown differs, as diff(1) has it.
        if status != 0 and (status != 1 or not expected):
            self.fail(name, f"status {status}: {script}", out)
            return
        lines = [line.rstrip() for line in out.splitlines()]
        for line in expected:
            if line.rstrip() not in lines:
                self.fail(name, f"{script}\n    does not print\n    {line}\n    but", out)
                return
        print(f"ok   {name}: {script.splitlines()[0]}")

    def compile(self, name, block):
        self.ran += 1
        text = C_FRONT + "\n".join(block) + "\nreturn 0;\n}\n"
        done = subprocess.run([self.compiler, "-std=gnu11", "-D_GNU_SOURCE", "-fsyntax-only", "-Wall",
                               "-Werror", "-Wno-unused", "-I", os.path.join(self.source, "include"),
                               "-x", "c", "-"], input=text, text=True, capture_output=True)
        if done.returncode:
            self.fail(name, "does not compile", done.stderr)
        else:
            print(f"ok   {name}: {block[0]} (compiled)")

    def prompts(self, name, place, block):
        """Commands behind "$ ", each followed by what it prints."""
        command, expected = None, []
        for line in block + ["$ "]:
            if line.startswith("$ "):
                if command:
                    self.run(name, place, command, expected)
                command, expected = line[2:], []
            elif command.endswith("\\"):
                command += "\n" + line
            else:
                expected.append(line)

    def page(self, path):
        name = os.path.basename(path)
        place = Place(self.source, self.build)
        for block in page_blocks(path):
            if block[0].startswith("$ "):
                self.prompts(name, place, block)
            elif ROOTS.match(block[0]):
                continue
            elif is_c(block):
                self.compile(name, block)
            else:
                self.run(name, place, "\n".join(block))
        place.remove()

    def readme(self, path):
        place = Place(self.source, self.build)
        blocks = readme_blocks(path)
        assert len(blocks) >= 4, "README's examples are not where they were"
        for block in blocks:
            script = "\n".join(line for line in block if line not in LEFT_OUT)
            if script:
                self.run("README.md", place, script)
        options, rows = readme_table(path)
        self.run("README.md", place, "build/bin/uodprun build/bin/odpcmp " + options, rows)
        place.remove()


def main():
    source, build, compiler = sys.argv[1:]
    judge = Judge(source, build, compiler)
    judge.readme(os.path.join(source, "README.md"))
    man = os.path.join(source, "man")
    for page in sorted(os.listdir(man)):
        if re.fullmatch(r"\w+\.[137]", page):
            judge.page(os.path.join(man, page))
    print(f"{judge.ran} examples, {judge.failed} failed, {judge.skipped} skipped")
    if judge.failed:
        return 1
    return SKIPPED if judge.skipped else 0


if __name__ == "__main__":
    sys.exit(main())
