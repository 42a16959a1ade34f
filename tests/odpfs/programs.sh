#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: programs.sh ODPFS fio|stress-ng|dbench|rsync|git [SECONDS]
# Programs of others, which check what they read.
set -u
program=$2
seconds=${3:-3}
# shellcheck source=tests/odpfs/mount.sh
. "$(dirname "$0")/mount.sh"
if ! command -v "$program" >/dev/null; then
	echo "skipped: $program is not installed"
	exit 77
fi
source=$(cd "$(dirname "$0")/../.." && pwd)

run() { # COMMAND...: its output is shown when it fails
	"$@" >"$tmp/out" 2>&1 || {
		fault "status $?: $*"
		cat "$tmp/out"
	}
}

run_fio() {
	for engine in psync mmap; do
		run fio --name=verify --directory="$mnt" --ioengine=$engine --rw=randrw --size=8m \
			--bsrange=4k-64k --numjobs=2 --verify=crc32c --verify_fatal=1 --fsync=64 \
			--time_based --runtime="$seconds" --fallocate=none
	done
	run fio --name=direct --directory="$mnt" --ioengine=psync --direct=1 --rw=randwrite \
		--size=4m --bs=4k --verify=crc32c --verify_fatal=1
}

# Those that work on files, and check what they do.
run_stress_ng() {
	run stress-ng --temp-path "$mnt" --verify --timeout "$seconds" --metrics-brief \
		--copy-file 1 --dentry 1 --dir 1 --fallocate 1 --fpunch 1 --hdd 1 --hdd-bytes 8m \
		--link 1 --mmap 1 --mmap-file --mmap-bytes 8m --rename 1 --seek 1 --symlink 1 \
		--utime 1 --xattr 1 --lockf 1 --flock 1 --sync-file 1 --readahead 1
	grep -q "successful run completed" "$tmp/out" || fault "stress-ng: $(cat "$tmp/out")"
}

run_dbench() {
	run dbench -t "$seconds" -D "$mnt" 2
	grep -q "Throughput [0-9.]* MB/sec" "$tmp/out" || fault "dbench: $(cat "$tmp/out")"
}

run_rsync() {
	run rsync -a /usr/include/ "$mnt/include/"
	run rsync -a "$mnt/include/" "$tmp/back-again/"
	run rsync -acni --delete /usr/include/ "$tmp/back-again/"
	[ ! -s "$tmp/out" ] || fault "rsync -c finds differences: $(head "$tmp/out")"
	run rsync -acni --delete /usr/include/ "$mnt/include/"
	[ ! -s "$tmp/out" ] || fault "rsync -c finds differences: $(head "$tmp/out")"
}

run_git() {
	if ! git -C "$source" rev-parse HEAD >/dev/null 2>&1; then
		echo "skipped: $source is no git repository"
		exit 77
	fi
	run git clone -q --no-hardlinks "$source" "$mnt/clone"
	run git -C "$mnt/clone" fsck --full
	[ -z "$(git -C "$mnt/clone" status --porcelain)" ] || fault "the clone has changed files"
	run cmake -S "$mnt/clone" -B "$mnt/build" -DCMAKE_BUILD_TYPE=Debug -DBUILD_TESTING=OFF
	run cmake --build "$mnt/build" --target uodprun
	run "$mnt/build/bin/uodprun" --version
}

mount_odpfs || exit 1
case $program in
fio) run_fio ;;
stress-ng) run_stress_ng ;;
dbench) run_dbench ;;
rsync) run_rsync ;;
git) run_git ;;
esac
unmount_odpfs
exit $failed
