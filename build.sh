#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
set -eu

usage() {
	cat <<'EOF'
usage: ./build.sh           build into build/
       ./build.sh demo      build, then show pinned and on-demand regions at work
       ./build.sh test      build, also with sanitizers, and run every test
       ./build.sh rxe [--record] [--report FILE.html]
                            build, then compare uodp0 with rdma_rxe in a virtual machine;
                            --record: keep what it answers, under its kernel's version
       ./build.sh mutants [--list] [NAME...]
                            break the code on purpose, in a copy, and see that tests notice
       ./build.sh conformance
                           build, then run others' suites on uodp0: rdma-core's Python
                           tests, UCX, Open MPI, infiniband-diags, qperf
       ./build.sh deb       make Debian packages in build/deb/, and check them with lintian
       ./build.sh --help

What is missing is installed with apt-get when root runs this; otherwise the
command that installs it is printed.

CC         the C compiler, when build/ does not exist yet (default: cc)
UODP_WERROR=1  compiler warnings are errors
UODP_TEST_RXE  whether ./build.sh test compares with a live rdma_rxe, as ./build.sh rxe
           does: 1: yes, and says so if it cannot (no mirror, say); require: it must;
           0: no; default: if a kernel is in the cache
UODP_TEST_STORM=0  ./build.sh test leaves the storm out, a minute of memory events
EOF
}

say() { printf '%s\n' "$*"; }
die() {
	say "build.sh: $*" >&2
	exit 1
}
heading() { printf '\n== %s\n\n' "$*"; }

# ---- what the build and the tests need ----

missing=
need() { # PACKAGE TEST...: PACKAGE is missing when TEST fails
	package=$1
	shift
	"$@" >/dev/null 2>&1 || missing="$missing $package"
}
have_header() {
	[ -e "/usr/include/$1" ] || printf '#include <%s>\n' "$1" | "${CC:-cc}" -E -
}
have_static_busybox() {
	command -v busybox && ! ldd "$(command -v busybox)"
}
have_pyverbs() { /usr/bin/python3 -c 'import pyverbs.device'; }
have_make() { command -v ninja || command -v make; }
# Pages for man are left out of small systems; the pages' test needs groff only.
have_groff() { command -v groff && groff -man -Tutf8 /dev/null; }

need_build() {
	need gcc command -v "${CC:-cc}"
	need libc6-dev have_header stdio.h
	need cmake command -v cmake
	need ninja-build have_make
	need libibverbs-dev have_header infiniband/verbs.h
	need liburing-dev have_header liburing.h
	need libjson-c-dev have_header json-c/json.h
	need libfuse3-dev have_header fuse3/fuse_opt.h
}
# What our own tests are built with.
need_test_build() {
	need libcunit1-dev have_header CUnit/Basic.h
	need zlib1g-dev have_header zlib.h
}
need_perftest() {
	need perftest command -v ib_write_bw
}
# Software of others that runs on the device as it is.
need_conformance() {
	need rdma-core [ -d /usr/share/doc/rdma-core/tests ]
	need ucx-utils command -v ucx_perftest
	need openmpi-bin command -v mpirun
	need libopenmpi-dev command -v mpicc
	need infiniband-diags command -v ibstat
	need qperf command -v qperf
}
need_tests() {
	need_test_build
	need_perftest
	need_conformance
	need ibverbs-utils command -v ibv_rc_pingpong
	need python3 command -v python3
	need python3-pyverbs have_pyverbs
	need rdmacm-utils command -v rping
	need libfabric-bin command -v fi_pingpong
	need groff-base have_groff
	need_odpfs
}

# odpfs is mounted, and other programs are let loose on it.
need_odpfs() {
	need fuse3 command -v fusermount3
	need fio command -v fio
	need stress-ng command -v stress-ng
	need dbench command -v dbench
	need rsync command -v rsync
	need git command -v git
}

# The virtual machine with rdma_rxe. The tools of a system are in sbin.
need_rxe() {
	PATH=$PATH:/usr/sbin:/sbin
	need qemu-system-x86 command -v qemu-system-x86_64
	need busybox-static have_static_busybox
	need cpio command -v cpio
	need kmod command -v modprobe
	need xz-utils command -v xz
	need iproute2 command -v rdma
	need e2fsprogs command -v mkfs.ext4
	need util-linux command -v flock
	need debian-archive-keyring [ -s /usr/share/keyrings/debian-archive-keyring.gpg ]
	need ibverbs-utils command -v ibv_devices
}

provide() {
	[ -n "$missing" ] || return 0
	install="apt-get install -y --no-install-recommends$missing"
	if ! command -v apt-get >/dev/null; then
		die "needed (names of Debian packages):$missing"
	elif [ "$(id -u)" -ne 0 ]; then
		say "build.sh: packages are missing; this installs them:" >&2
		die "sudo apt-get update && sudo $install"
	fi
	say "installing:$missing"
	export DEBIAN_FRONTEND=noninteractive
	apt-get -qq update
	$install >/dev/null
}

# ---- building ----

jobs=$(nproc 2>/dev/null || echo 2)

build() { # DIRECTORY [cmake option...]
	dir=$1
	shift
	if [ ! -e "$dir/CMakeCache.txt" ] && command -v ninja >/dev/null; then
		set -- -G Ninja "$@"
	fi
	if [ "${UODP_WERROR:-0}" != 0 ]; then
		set -- -DUODP_WERROR=ON "$@"
	fi
	cmake -S . -B "$dir" "$@"
	cmake --build "$dir" --parallel "$jobs"
}

quiet() { # COMMAND...: its output is shown when it fails
	log=$(mktemp)
	if "$@" >"$log" 2>&1; then
		rm -f "$log"
	else
		cat "$log" >&2
		rm -f "$log"
		exit 1
	fi
}

# ---- demo ----

perftest_pair() { # PROGRAM [argument...]: two processes; the client's table is shown
	build/bin/uodprun --pair "$@" -p $((20000 + $$ % 10000)) >"$UODP_DIR/out" 2>&1 || {
		cat "$UODP_DIR/out" >&2
		die "$1 failed"
	}
	grep -E '^ *(#bytes|[0-9]+ )' "$UODP_DIR/out"
}

demo() {
	quiet build build
	UODP_DIR=$(mktemp -d "${TMPDIR:-/tmp}/uodp-demo.XXXXXX")
	export UODP_DIR
	trap 'rm -rf "$UODP_DIR"' EXIT
	trap 'exit 130' INT TERM

	heading "What memory events do to a pinned and an on-demand region (odpcmp on uodp0)"
	build/bin/uodprun build/bin/odpcmp
	heading "RDMA writes of 64 KiB between two processes, pinned (ib_write_bw)"
	perftest_pair ib_write_bw -F -d uodp0 -x 1 -s 65536 -D 2
	heading "The same, on demand (ib_write_bw --odp)"
	perftest_pair ib_write_bw -F -d uodp0 -x 1 -s 65536 -D 2 --odp
}

# ---- test ----

run_tests() {
	build build -DBUILD_TESTING=ON
	build build/asan -DBUILD_TESTING=ON -DUODP_SANITIZE=address
	build build/tsan -DBUILD_TESTING=ON -DUODP_SANITIZE=thread
	# One more than there are CPUs: most tests wait for another process now and then.
	ctest --test-dir build --output-on-failure --no-tests=error --parallel $((jobs + 1))
}

judge() {
	quiet build build -DBUILD_TESTING=ON # a test of dma-bufs takes part
	UODP_TEST_RXE=require
	export UODP_TEST_RXE
	tests/isolate.sh tests/rxe/judge.sh "$@" build/bin/odpcmp build/bin/uodprun \
		build/tests/dv/dv_dmabuf
}

conformance() {
	quiet build build
	tests/conformance/run.py --uodprun build/bin/uodprun
}

# ---- packages ----

# From a copy of what git has, with packaging/debian as debian/.
deb() {
	out=$PWD/build/deb
	rm -rf "$out"
	mkdir -p "$out"
	version=$(sed -n '1s/.*(\([^-)]*\).*/\1/p' packaging/debian/changelog)
	tree=$out/uodp-$version
	mkdir "$tree"
	git ls-files -z | xargs -0 tar -cf - | tar -C "$tree" -xf -
	cp -r packaging/debian "$tree/debian"
	tar -C "$out" --anchored --exclude="uodp-$version/debian" -czf "$out/uodp_$version.orig.tar.gz" "uodp-$version"
	(cd "$tree" && quiet dpkg-buildpackage -us -uc)
	rm -rf "$tree"
	say "$out:" && (cd "$out" && ls ./*.deb)
	# Run as root it warns of that; the packages are made here, for nobody's archive.
	lintian --fail-on error,warning --allow-root \
		--suppress-tags initial-upload-closes-no-bugs "$out"/*.changes
}

cd "$(dirname "$0")"
case ${1:-build} in
build)
	need_build
	provide
	build build
	say "built: $(echo build/bin/*)"
	;;
demo)
	need_build
	need_perftest
	provide
	demo
	;;
rxe)
	need_build
	need_test_build
	need_rxe
	provide
	shift
	judge "$@"
	;;
deb)
	need_build
	need build-essential command -v make
	need debhelper command -v dh
	need dpkg-dev command -v dpkg-buildpackage
	need lintian command -v lintian
	need valgrind have_header valgrind/memcheck.h
	provide
	deb
	;;
conformance)
	need_build
	need_conformance
	need python3 command -v python3
	need python3-pyverbs have_pyverbs
	provide
	conformance
	;;
test)
	need_build
	need_tests
	case ${UODP_TEST_RXE:-0} in 1 | require) need_rxe ;; esac
	provide
	run_tests
	;;
mutants)
	need_build
	need_tests
	provide
	shift
	tests/mutants/run.py "$@"
	;;
-h | --help | help)
	usage
	;;
*)
	usage >&2
	exit 2
	;;
esac
