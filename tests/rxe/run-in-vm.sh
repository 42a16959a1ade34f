#!/bin/bash
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Runs a host command, as it is, in a virtual machine that has a real rdma_rxe
# device, rxe0 (GID index 1 is IPv4). Usage: run-in-vm.sh CMD [ARG]...
#
# The guest sees the host's root; what it writes there is lost, except that
# /var/tmp is a fresh ext4. Output and exit status are the command's; 124 says
# that the time was up, 125 that there was no virtual machine to run it in.
# UODP_RXE_TIMEOUT (seconds, default 300), UODP_RXE_MEM (MiB, default 3072),
# UODP_RXE_ACCEL (default tcg,thread=multi), UODP_RXE_SUITE, UODP_CACHE.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/lib.sh"

[ $# -gt 0 ] || die "usage: run-in-vm.sh CMD [ARG]..."
need qemu-system-x86_64:qemu-system-x86 busybox:busybox-static cpio:cpio modprobe:kmod \
	xz:xz-utils rdma:iproute2 mkfs.ext4:e2fsprogs
rxe_version >/dev/null || "$here/fetch-kernel.sh" >&2 || exit 125
version=$(rxe_version)
time_limit=${UODP_RXE_TIMEOUT:-300}
grace=60 # for the boot and the shutdown, on top of the command's own time

add_modules() {
	local dir=$1 file name

	# crc32_generic: rdma_rxe of 6.12 asks the crypto layer for it by name.
	for file in $(rxe_modules "$version" netfs 9p 9pnet_virtio overlay virtio_blk ext4 \
		crc32c_generic crc32_generic dummy rdma_rxe ib_uverbs rdma_ucm); do
		name=$(basename "${file%.xz}")
		if [ "$file" = "${file%.xz}" ]; then cp "$file" "$dir/$name"
		else xz -dc "$file" >"$dir/$name"; fi
		echo "$name" >>"$dir/order"
	done
	[ -s "$dir/order" ] || die "no modules for $version; try: $here/fetch-kernel.sh --force"
}

# The initramfs depends only on the kernel and these scripts: built once for each.
initrd() {
	local key file root

	key=$(cat "$here/guest-init.sh" "$0" | cksum | cut -d' ' -f1)
	file=$RXE_CACHE/initrd-$version-$key.gz
	if [ ! -s "$file" ]; then
		find "$RXE_CACHE" -maxdepth 1 -name 'initrd-*' -mmin +60 -delete
		root=$job/initrd
		mkdir -p "$root/bin" "$root/modules"
		cp "$(command -v busybox)" "$root/bin/busybox"
		cp "$here/guest-init.sh" "$root/init"
		chmod +x "$root/init"
		add_modules "$root/modules"
		(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$file.$$"
		mv "$file.$$" "$file"
	fi
	echo "$file"
}

write_job() {
	local share=$1 var

	shift
	mkdir "$share"
	cp "$here/guest-job.sh" "$share"
	pwd >"$share/cwd"
	echo "$time_limit" >"$share/limit"
	printf '%q ' "$@" >"$share/command"
	for var in PATH HOME USER LANG TERM ${!UODP_@} ${!LC_@} \
		ASAN_OPTIONS UBSAN_OPTIONS TSAN_OPTIONS LSAN_OPTIONS; do
		[ -z "${!var+set}" ] || printf 'export %s=%q\n' "$var" "${!var}"
	done >"$share/environment"
	touch "$share/stdout" "$share/stderr"
}

print_console() {
	echo "run-in-vm.sh: the console's last lines:" >&2
	tr -d '\000\r' <"$job/console" | sed 's/\x1b[^A-Za-z]*[A-Za-z]//g' | tail -n 60 >&2
}

cleanup() {
	[ -z "${qemu:-}" ] || kill "$qemu" 2>/dev/null || true
	rm -rf "$job"
}

job=$(mktemp -d "${TMPDIR:-/tmp}/uodp-vm.XXXXXX")
trap cleanup EXIT
trap 'exit 130' INT TERM
: >"$job/console"
write_job "$job/share" "$@"
initrd_file=$(initrd)
truncate -s 256M "$job/disk"
mkfs.ext4 -q -F "$job/disk" || die "cannot make the guest's disk"

# Boots, and sets VM_STATUS. Kernels patch their own code while they boot, which QEMU's
# emulation with a thread a CPU does not always take well (seen with 7.3.4: a panic in
# sched_clock_cpu): one that ends before it has begun the job is booted again.
boot() {
	local accel=$1

	: >"$job/console"
	timeout -k 5 $((time_limit + grace)) qemu-system-x86_64 \
		-accel "$accel" -cpu max -m "${UODP_RXE_MEM:-3072}" -smp 2 \
		-nodefaults -display none -serial "file:$job/console" -no-reboot \
		-kernel "$(rxe_vmlinuz "$version")" -initrd "$initrd_file" \
		-append "console=ttyS0 panic=1 oops=panic quiet nokaslr" \
		-virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap \
		-virtfs "local,path=$job/share,mount_tag=job,security_model=none" \
		-drive "file=$job/disk,format=raw,if=virtio,cache=unsafe" \
		>"$job/qemu.log" 2>&1 &
	qemu=$!
	tail -q -s 0.1 -c +1 -f --pid=$qemu "$job/share/stdout" &
	tails=$!
	tail -q -s 0.1 -c +1 -f --pid=$qemu "$job/share/stderr" >&2 &
	tails="$tails $!"
	vm_status=0
	wait "$qemu" || vm_status=$?
	qemu=
	# shellcheck disable=SC2086
	wait $tails || true
}

for accel in "${UODP_RXE_ACCEL:-tcg,thread=multi}" "${UODP_RXE_ACCEL:-tcg,thread=multi}" \
	"${UODP_RXE_ACCEL:-tcg,thread=single}"; do
	boot "$accel"
	! grep -q 'uodp-vm: starting the job' "$job/console" || break
	[ "$vm_status" -ne 124 ] || break
	echo "run-in-vm.sh: the kernel did not come up (qemu exit $vm_status)" >&2
done

if [ -s "$job/share/status" ]; then
	exit "$(cat "$job/share/status")"
fi
print_console
if [ "$vm_status" -eq 124 ] || [ "$vm_status" -eq 137 ]; then
	echo "run-in-vm.sh: not done after $((time_limit + grace)) s" >&2
	exit 124
fi
cat "$job/qemu.log" >&2
die "the virtual machine ended without a status (qemu exit $vm_status)"
