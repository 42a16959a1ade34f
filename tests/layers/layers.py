#!/usr/bin/env python3
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
"""Check that layers use and include only what lies below them, and what that offers.

layers.py SOURCE_DIR [--public FILE]... [--readme FILE] [--known FILE] OBJECT...

SOURCE_DIR/layers.txt names the layers, lowest first; each is a folder of SOURCE_DIR. An
OBJECT is .../LAYER/FILE.c.o, compiled from SOURCE_DIR/LAYER/FILE.c.

What a layer offers to others its headers declare, but for those named *_priv.h, which no
other layer includes.

--public FILE: a header of the library's own interface, which declares names too.
--readme FILE: its table of folders names the same layers in the same order.
--known FILE: uses that are still upward, a line "FILE FILE NAME" each, as they are
reported. One that is there no more is an error too, so that the list only shrinks.
"""
import argparse
import functools
import pathlib
import re
import subprocess
import sys

NAME = re.compile(r"\bu?odp_\w+")
OURS = re.compile(r"u?odp_")  # not what the C library has too, and preload/ interposes
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)
ROW = re.compile(r"^\| `(\w+)/?` \|", re.M)


def layers_read(source):
    lines = (source / "layers.txt").read_text().splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))


def source_of(obj, layers):
    """LAYER/FILE.c of .../LAYER/FILE.c.o, which may lie deeper in the layer."""
    parts = pathlib.PurePath(obj).parts
    at = max(i for i, part in enumerate(parts) if part in layers)
    return "/".join(parts[at:]).removesuffix(".o")


@functools.cache
def symbols(objects, layers):
    """Who defines which of our names, and (file, name) for each that is used."""
    defined, used = {}, []
    listing = subprocess.run(["nm", "-P", "-A", *objects], check=True, text=True,
                             capture_output=True)
    for line in listing.stdout.splitlines():
        obj, symbol = line.split(": ", 1)
        name, kind = symbol.split()[:2]
        if not OURS.match(name):
            continue
        if kind in "Uw":
            used.append((source_of(obj, layers), name))
        elif kind.isupper():
            defined[name] = source_of(obj, layers)
    return defined, used


def headers(source, layers):
    """Path of each header below SOURCE by what an #include may call it."""
    found = {}
    for layer in layers:
        for path in sorted((source / layer).rglob("*.h")):
            name = path.relative_to(source).as_posix()
            found[name] = name
            if path.name in found:
                sys.exit(f"layers: {name} and {found[path.name]} have one name")
            found[path.name] = name
    return found


def included(source, layers):
    """(file, header) for each #include of one of our headers."""
    known = headers(source, layers)
    for layer in layers:
        for path in sorted((source / layer).rglob("*.[ch]")):
            name = path.relative_to(source).as_posix()
            for header in INCLUDE.findall(path.read_text()):
                if header in known:
                    yield name, known[header]


def offered(source, layers, public):
    """By layer, the names in its headers for others and in the public ones."""
    names = set().union(*(NAME.findall(path.read_text()) for path in public))
    return {layer: names.union(*(NAME.findall(path.read_text())
                                 for path in (source / layer).rglob("*.h")
                                 if not path.name.endswith("_priv.h")))
            for layer in layers}


def hidden(source, layers, objects, public):
    """(user, owner, name) where a layer uses or includes what another keeps to itself."""
    def others(user, owner):
        return user.split("/")[0] != owner.split("/")[0]

    offers = offered(source, layers, public)
    defined, used = symbols(objects, layers)
    found = {(user, defined[name], name) for user, name in used
             if name in defined and others(user, defined[name])
             and name not in offers[defined[name].split("/")[0]]}
    found |= {(user, header, "#include") for user, header in included(source, layers)
              if others(user, header) and header.endswith("_priv.h")}
    return found


def upward(source, layers, objects):
    rank = {layer: i for i, layer in enumerate(layers)}

    def above(low, high):
        return rank[high.split("/")[0]] > rank[low.split("/")[0]]

    defined, used = symbols(objects, layers)
    found = {(user, defined[name], name) for user, name in used
             if name in defined and above(user, defined[name])}
    found |= {(user, header, "#include") for user, header in included(source, layers)
              if above(user, header)}
    return found


def known_read(path):
    if not path:
        return set()
    lines = path.read_text().splitlines()
    return {tuple(line.split()) for line in lines if line and not line.startswith("#")}


def readme_differs(path, layers):
    if not path:
        return False
    rows = tuple(row for row in ROW.findall(path.read_text()) if row in layers)
    if rows != layers:
        print(f"{path}: its table has the layers {' '.join(rows)}, not {' '.join(layers)}")
    return rows != layers


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("--public", type=pathlib.Path, action="append", default=[])
    parser.add_argument("--readme", type=pathlib.Path)
    parser.add_argument("--known", type=pathlib.Path)
    parser.add_argument("objects", nargs="+", metavar="OBJECT")
    args = parser.parse_args()
    layers, objects = layers_read(args.source), tuple(args.objects)
    found, known = upward(args.source, layers, objects), known_read(args.known)
    for user, owner, name in sorted(found - known):
        what = "includes" if name == "#include" else f"uses {name} of"
        print(f"{user} {what} {owner}, which lies above it")
    private = hidden(args.source, layers, objects, args.public)
    for user, owner, name in sorted(private - found):
        if name == "#include":
            print(f"{user} includes {owner}, which is its layer's own")
        else:
            print(f"{user} uses {name} of {owner}, which no header of that layer offers")
    for line in sorted(known - found):
        print(f"{args.known}: {' '.join(line)}: no longer so, delete the line")
    return bool(found ^ known or private - found) | readme_differs(args.readme, layers)


if __name__ == "__main__":
    sys.exit(main())
