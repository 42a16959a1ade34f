#!/bin/sh
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Usage: packages.sh DIRECTORY
# Install the Debian packages of DIRECTORY (./build.sh deb) into a fresh system of this
# release, and try them there as a user who has installed them would. Needs root.
set -eu
debs=$1
[ "$(id -u)" -eq 0 ] || { echo 'skip: not root' && exit 77; }
command -v debootstrap >/dev/null || { echo 'skip: debootstrap is not installed' && exit 77; }
set -- "$debs"/uodp-tools_*.deb
[ -e "$1" ] || { echo "no packages in $debs: ./build.sh deb" && exit 1; }
# shellcheck source=/dev/null
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
mirror=$(sed -n 's/^deb \(\[[^]]*\] \)*\([^ ]*\).*/\2/p; s/^URIs: *\([^ ]*\).*/\1/p' \
	/etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n 1)
root=$(mktemp -d "${TMPDIR:-/var/tmp}/uodp-chroot.XXXXXX")
chmod 755 "$root"
end()
{
	umount "$root/proc" "$root/dev/shm" "$root/dev" 2>/dev/null || :
	rm -rf --one-file-system "$root"
}
trap end EXIT
debootstrap --variant=minbase --include=ca-certificates "$release" "$root" "$mirror" >"$debs/chroot.log" 2>&1 ||
	{ tail -n 5 "$debs/chroot.log" && exit 1; }
cp /etc/apt/apt.conf.d/* "$root/etc/apt/apt.conf.d/" 2>/dev/null || :
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mkdir "$root/debs"
cp "$debs"/*.deb "$root/debs/"
rm -f "$root"/debs/*dbgsym*
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive sh -c "$1"; }
inside 'apt-get -qq update && apt-get install -y --no-install-recommends ./debs/*.deb ibverbs-utils gcc libc6-dev' \
	>>"$debs/chroot.log" 2>&1 || { tail -n 20 "$debs/chroot.log" && exit 1; }
inside 'uodprun ibv_devices' | grep uodp0
inside 'uodprun odpcmp --kind=anon --event=none,dontneed,munmap'
inside 'odpctl --version && odpcmp --version && odpfs --version && uodprun --version'
# As an ordinary user.
inside 'useradd -m user && su user -c "uodprun ibv_devinfo -d uodp0"' | grep PORT_ACTIVE
# Programs link with the libraries.
inside 'printf "#include <infiniband/uodpdv.h>\nint main(void) { return !uodpdv_is_supported(0); }\n" >/tmp/t.c && gcc -o /tmp/t /tmp/t.c -luodp -libverbs' ||
	{ echo 'FAIL: a program does not link' && exit 1; }
inside 'apt-get purge -y uodp-tools libuodp1 libodp0 libuodp-dev uodp-doc' >>"$debs/chroot.log" 2>&1
left=$(chroot "$root" find / -xdev -name '*uodp*' -not -path '/debs*' -not -path '/tmp/*' -not -path '/proc/*' 2>/dev/null || :)
[ -z "$left" ] || { echo "FAIL: left after purge: $left" && exit 1; }
echo 'packages: ok'
