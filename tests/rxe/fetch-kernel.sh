#!/bin/bash
# SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause)
# Brings a Debian kernel with rdma_rxe into the cache. Usage: fetch-kernel.sh [--force]
#
# apt works on state of its own, so that the system's sources and lists stay
# as they are; the mirror is the one that the system uses, with another suite.
# UODP_RXE_SUITE (default trixie-backports) names the suite, UODP_CACHE the cache.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

mirror() {
	local codename

	codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	apt-get indextargets --format '$(REPO_URI)|$(ORIGIN)/$(LABEL)|$(RELEASE)' \
		'Created-By: Packages' |
		awk -F'|' -v rel="$codename" '$2 == "Debian/Debian" || $3 == rel { print $1; exit }'
}

own_apt() {
	local tool=$1

	shift
	"$tool" -o Dir::State="$apt/state" -o Dir::State::Lists="$apt/lists" \
		-o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache" \
		-o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
		-o APT::Sandbox::User="$(id -un)" -o APT::Architecture=amd64 "$@"
}

set_up_apt() {
	local uri keys=/usr/share/keyrings/debian-archive-keyring.gpg

	uri=$(mirror)
	[ -n "$uri" ] || die "no Debian mirror among the system's apt sources"
	[ -s "$keys" ] || die "missing $keys; try: apt-get install debian-archive-keyring"
	mkdir -p "$apt"/state "$apt"/lists/partial "$apt"/cache/archives/partial
	: >"$apt/status"
	echo "deb [signed-by=$keys] $uri $RXE_SUITE main" >"$apt/sources.list"
	own_apt apt-get -q update >"$apt/log" 2>&1 || { cat "$apt/log" >&2; die "apt-get update failed"; }
}

# The packages behind linux-image-amd64 that hold the kernel and its modules.
kernel_packages() {
	own_apt apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts \
		--no-breaks --no-replaces --no-enhances linux-image-amd64 |
		grep -E '^linux-(image|binary|modules)-[0-9]' | sort -u
}

need apt-get:apt dpkg:dpkg depmod:kmod flock:util-linux
mkdir -p "$RXE_CACHE"
exec 9>"$RXE_CACHE/lock"
flock 9
if [ "${1:-}" != --force ] && rxe_version >/dev/null; then
	echo "kernel $(rxe_version) is in $RXE_CACHE"
	exit 0
fi

apt=$RXE_CACHE/apt
rm -f "$RXE_CACHE/version"
set_up_apt
mapfile -t packages < <(kernel_packages)
[ "${#packages[@]}" -gt 0 ] || die "suite $RXE_SUITE has no linux-image-amd64"

rm -rf "$RXE_CACHE/debs" "$RXE_TREE"
mkdir -p "$RXE_CACHE/debs" "$RXE_TREE"
echo "downloading ${packages[*]}"
(cd "$RXE_CACHE/debs" && own_apt apt-get -q download "${packages[@]}") >"$apt/log" 2>&1 ||
	{ cat "$apt/log" >&2; die "download failed"; }
for deb in "$RXE_CACHE"/debs/*.deb; do
	dpkg -x "$deb" "$RXE_TREE"
done
rm -rf "$RXE_CACHE/debs" "$RXE_CACHE"/initrd-*

# depmod and modprobe look below lib/, the packages of a merged-/usr suite unpack below usr/lib/.
[ -e "$RXE_TREE/lib" ] || ln -s usr/lib "$RXE_TREE/lib"
version=$(basename "$(dirname "$(find "$RXE_TREE/lib/" -path '*/modules/*/kernel' -prune -print -quit)")")
rxe_vmlinuz "$version" >/dev/null || die "no vmlinuz for version '$version' in ${packages[*]}"
# The package that brings these lists is not needed for more; depmod asks for them.
touch "$RXE_TREE/lib/modules/$version/modules."{order,builtin,builtin.modinfo}
depmod -b "$RXE_TREE" "$version"
echo "$version" >"$RXE_CACHE/version"
echo "kernel $version is in $RXE_CACHE"
