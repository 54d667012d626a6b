#!/bin/sh
# Runs on a host that is judged, as root, with the scanners at /run/judge, which is read-only and not a part of the
# image. Its arguments are profiles of the SCAP Security Guide. Prints one finding a line: what it is of, what it is
# about, and the result, with tabs between them.
set -eu
judge=/run/judge
results=$(mktemp -d /run/judge-results.XXXXXX)
tab=$(printf '\t')

# A container sees the kernel of this machine, which is not the one that the image boots. So it gets the values that
# the kernel of Debian 12 starts with, and the image's own systemd-sysctl sets what the image says, as at a boot.
for part in kernel fs vm dev; do
  mkdir -p "$results/sys/$part"
  mount -t tmpfs -o size=4m,mode=0755 tmpfs "$results/sys/$part"
done
while IFS= read -r line; do
  key=${line%% = *}
  file=$results/sys/$(echo "$key" | tr . /)
  mkdir -p "${file%/*}"
  printf '%s\n' "${line#* = }" > "$file"
done < "$judge/debian-12-kernel.sysctl"
for part in kernel fs vm dev; do
  # What belongs to this container, such as its host name, stays the container's.
  cp -Rn /proc/sys/$part/random "$results/sys/$part/" 2> /dev/null || true
  for own in hostname domainname osrelease ostype version; do
    [ ! -e "/proc/sys/$part/$own" ] || cat "/proc/sys/$part/$own" > "$results/sys/$part/$own"
  done
  mount --bind "$results/sys/$part" "/proc/sys/$part"
done
# The network is the container's own, and what the image says about it can be had, which systemd-nspawn does not know.
mkdir "$results/proc"
mount -t proc proc "$results/proc"
mount --bind "$results/proc/sys/net" /proc/sys/net
umount "$results/proc"

# A kernel takes a value as a whole, but in a file the rest of a longer one would stay behind a shorter one.
keys=$(systemd-analyze cat-config sysctl.d | sed -n 's/^-\{0,1\}\(\(kernel\|fs\|vm\|dev\)[./][^ =]*\) *=.*/\1/p' | tr . / | sort -u)
for key in $keys; do
  [ -f "/proc/sys/$key" ] || continue
  mkdir -p "$results/before/${key%/*}"
  cp "/proc/sys/$key" "$results/before/$key"
  : > "/proc/sys/$key"
done
/lib/systemd/systemd-sysctl 2> /dev/null || true
for key in $keys; do
  [ ! -f "/proc/sys/$key" ] || [ -s "/proc/sys/$key" ] || cat "$results/before/$key" > "/proc/sys/$key"
done

# systemd-nspawn mounts /tmp before the host's systemd could; what the image says about it holds from here.
systemctl reload tmp.mount 2> /dev/null || true

# What came up: nothing failed, and who listens where.
systemctl --failed --plain --no-legend --quiet | while read -r unit _; do
  echo "unit$tab$unit${tab}failed"
done
ss --no-header --listening --tcp --udp --numeric --processes | while read -r protocol _ _ _ address _ process; do
  case $address in
    127.* | '[::1]'*) where=itself ;;
    *) where=everybody ;;
  esac
  echo "listens$tab$protocol $address $(echo "$process" | sed -n 's/.*(("\([^"]*\)".*/\1/p')$tab$where"
done
systemd-analyze security --no-pager 2> /dev/null | awk -v tab="$tab" 'NR > 1 && $2 ~ /^[0-9.]+$/ { print "exposure" tab $1 tab $2 }'

loader=$(echo "$judge"/usr/lib/*/ld-linux-*.so.*)
libraries=${loader%/*}
export OSCAP_SCHEMA_PATH=$judge/usr/share/openscap/schemas OSCAP_XSLT_PATH=$judge/usr/share/openscap/xsl
export OSCAP_CPE_PATH=$judge/usr/share/openscap/cpe
# Some of its checks are scripts that it unpacks, which do not run from a /tmp that is as it should be.
export TMPDIR=$results
for profile in "$@"; do
  "$loader" --library-path "$libraries" "$judge/usr/bin/oscap" xccdf eval --progress \
    --profile "xccdf_org.ssgproject.content_profile_$profile" \
    "$judge/usr/share/xml/scap/ssg/content/ssg-debian12-ds.xml" 2> "$results/oscap.log" |
    sed -n "s/^xccdf_org.ssgproject.content_rule_\(.*\):\(pass\|fail\|error\|unknown\|notapplicable\|notchecked\)\$/$profile$tab\1$tab\2/p"
done

# Lynis is run from its folder, with its own files around it.
cp -R "$judge/lynis" "$results/lynis"
(cd "$results/lynis" && ./lynis audit system --quiet --no-colors --no-log --profile judge.prf --report-file "$results/lynis.dat" > /dev/null 2>&1) || true
sed -n "s/^hardening_index=/lynis${tab}index$tab/p" "$results/lynis.dat"
sed -n 's/^\(warning\|suggestion\)\[\]=\([^|]*\)|\([^|]*\)|.*/\1\t\2\t\3/p' "$results/lynis.dat"
