#!/bin/bash
# Unpacks QEMU 10 from Debian's backports into build/qemu10, beside the system's own QEMU, and leaves
# build/qemu10/qemu-system-x86_64, a script that runs it with its own data files. Nothing is
# installed from backports. The package host is the one this machine already uses: apt gets a list of
# its own, made from the machine's sources with the suite changed.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$PWD/build/qemu10
[[ -x $out/qemu-system-x86_64 ]] && exit 0

codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
rm -rf "$out"
mkdir -p "$out/apt/lists/partial" "$out/apt/parts"

# deb822 files: the paragraphs that name the suite itself, not its updates or security.
for file in /etc/apt/sources.list.d/*.sources; do
  [[ -e $file ]] || continue
  awk -v RS= -v ORS='\n\n' -v suite="$codename" '
    $0 ~ "(^|\n)Suites:([^\n]* )?(" suite "|stable|oldstable)( [^\n]*)?(\n|$)"' "$file" |
    sed -E "s/^Suites:.*/Suites: $codename-backports/; s/^Components:.*/Components: main/"
done > "$out/apt/parts/backports.sources"
# One-line files.
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
  [[ -e $file ]] || continue
  sed -nE "s/^(deb +(\[[^]]*\] +)?[^ ]+) +($codename|stable|oldstable) +main.*/\1 $codename-backports main/p" "$file"
done > "$out/apt/parts/backports.list"

apt=(-q -o "Dir::Etc::SourceList=/dev/null" -o "Dir::Etc::SourceParts=$out/apt/parts"
     -o "Dir::State::Lists=$out/apt/lists" -o "Dir::Cache::pkgcache=" -o "Dir::Cache::srcpkgcache="
     -o "APT::Sandbox::User=root" -o "APT::Install-Recommends=false")
packages=(qemu-system-x86 qemu-system-common qemu-system-data seabios)
echo "qemu10: unpacking ${packages[*]} of $codename-backports into $out"
apt-get "${apt[@]}" update > /dev/null
(cd "$out/apt" && apt-get "${apt[@]}" download "${packages[@]/%//$codename-backports}" > /dev/null)
for package in "$out"/apt/*.deb; do dpkg-deb -x "$package" "$out"; done

real=$out/usr/bin/qemu-system-x86_64
if missing=$(ldd "$real" | grep 'not found'); then
  echo "qemu10: libraries that this system lacks:" >&2
  echo "$missing" >&2
  exit 1
fi
rm -rf "$out/apt"
cat > "$out/qemu-system-x86_64.new" <<SCRIPT
#!/bin/sh
exec $real -L $out/usr/share/qemu -L $out/usr/share/seabios "\$@"
SCRIPT
chmod +x "$out/qemu-system-x86_64.new"
mv "$out/qemu-system-x86_64.new" "$out/qemu-system-x86_64"
