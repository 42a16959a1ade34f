#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# /init of the virtual machine: the host's root below a tmpfs overlay, then
# the job. Progress goes to the console, which the host prints on failure.

b=/bin/busybox

stop() {
	echo "uodp-vm: $*"
	$b sync
	$b poweroff -f
}

$b mkdir -p /proc /sys /dev /lower /rw /new
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev 2>/dev/null

while read -r module; do
	$b insmod "/modules/$module" || stop "cannot insert $module"
done </modules/order

$b mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=262144,cache=loose host /lower ||
	stop "cannot mount the host's root"
$b mount -t tmpfs -o size=50% tmpfs /rw
$b mkdir /rw/upper /rw/work
$b mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work overlay /new ||
	stop "cannot mount the overlay"

for fs in proc sysfs:sys devtmpfs:dev tmpfs:run devpts:dev/pts tmpfs:dev/shm; do
	dir=/new/${fs#*:}
	$b mkdir -p "$dir"
	$b mount -t "${fs%%:*}" "${fs%%:*}" "$dir" || stop "cannot mount $dir"
done
$b chmod 1777 /new/dev/shm

$b mkdir -p /new/run/job
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=none job /new/run/job ||
	stop "cannot mount the job"
if [ -b /dev/vda ]; then
	$b mount -t ext4 /dev/vda /new/var/tmp && $b chmod 1777 /new/var/tmp || stop "no ext4"
fi

echo "uodp-vm: starting the job"
$b chroot /new /bin/bash /run/job/guest-job.sh
stop "job done"
