#!/bin/sh
# Unpacks a software Vulkan (Mesa's lavapipe) into a folder, for machines without a GPU: `mesa.sh FOLDER`. Nothing is
# installed. Without a folder it says whether it could. The packages are those of Debian 12 with its backports: Mesa 22,
# which Debian 12 itself has, computes wrong.
set -eu
if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    echo "mesa.sh: apt-get and dpkg are needed" >&2
    exit 1
fi
# From where the system has its own packages.
mirror=$(apt-get indextargets --no-release-info --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' |
    sed -n 's/^bookworm //p' | head -n 1)
if [ -z "$mirror" ]; then
    echo "mesa.sh: the system's sources of packages have no suite bookworm, this is for Debian 12" >&2
    exit 1
fi
if [ $# -eq 0 ]; then
    exit
fi
folder=$1
state=$folder/apt
mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$state/etc" "$folder/root"
folder=$(cd "$folder" && pwd)
state=$folder/apt
key=/usr/share/keyrings/debian-archive-keyring.gpg
for suite in bookworm bookworm-backports; do
    echo "deb [signed-by=$key] $mirror $suite main"
done >"$state/etc/sources.list"
# What is installed is known from the system, so that only what is missing is fetched.
apt() {
    apt-get -q -o Dir::Etc::SourceList="$state/etc/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::Etc::Preferences=/dev/null -o Dir::State::Lists="$state/lists" -o Dir::Cache="$state/cache" \
        -o Debug::NoLocking=1 -o APT::Get::List-Cleanup=0 -o APT::Sandbox::User= "$@"
}
apt update >&2
apt install --yes --download-only --no-install-recommends --target-release bookworm-backports \
    mesa-vulkan-drivers libvulkan1 >&2
# Libraries that are installed already are not among them.
for package in "$state"/cache/archives/*.deb; do
    dpkg -x "$package" "$folder/root"
done
icd=$(find "$folder/root/usr/share/vulkan/icd.d" -name 'lvp_icd*.json')
# The file names a library, which the loader would look for in the system.
driver=$(find "$folder/root" -name libvulkan_lvp.so)
sed "s|\"library_path\": *\"[^\"]*\"|\"library_path\": \"$driver\"|" "$icd" >"$folder/lavapipe.json"
# Where the loader of libraries is to look.
ln -sfn "$(dirname "$driver")" "$folder/lib"
rm -rf "$state"
