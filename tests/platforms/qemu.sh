#!/bin/sh
# Unpacks qemu-aarch64 of Debian 13 into a folder: `qemu.sh FOLDER`. Nothing is installed. It is linked statically and runs on
# any Linux; that of Debian 12, version 7.2, crashes in ONNX Runtime.
set -eu
folder=$1
state=$folder/apt
if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    echo "qemu.sh: apt-get and dpkg are needed" >&2
    exit 1
fi
rm -rf "$folder"
mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
folder=$(cd "$folder" && pwd)
state=$folder/apt
key=/usr/share/keyrings/debian-archive-keyring.gpg
# From where the system has its own packages.
mirror=$(apt-get indextargets --no-release-info --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' |
    sed -n -E 's/^(bookworm|trixie) //p' | head -n 1)
if [ -z "$mirror" ]; then
    echo "qemu.sh: the system's sources of packages have no suite bookworm or trixie, this is for Debian 12 and 13" >&2
    exit 1
fi
echo "deb [signed-by=$key] $mirror trixie main" >"$state/sources.list"
apt() {
    apt-get -q -o Dir::Etc::SourceList="$state/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::Etc::Preferences=/dev/null -o Dir::State::Lists="$state/lists" -o Dir::Cache="$state/cache" \
        -o Debug::NoLocking=1 -o APT::Sandbox::User= "$@"
}
apt update >&2
# apt checks the signature of the list of packages, and by it the package.
cd "$folder" && apt download qemu-user:amd64 >&2
dpkg -x qemu-user_*.deb root
mv root/usr/bin/qemu-aarch64 .
# The package's own date is older than this script, and make would fetch it every time.
touch qemu-aarch64
rm -rf apt root qemu-user_*.deb
./qemu-aarch64 --version | head -n 1
