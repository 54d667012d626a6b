#!/bin/sh
# Runs on a host that is judged, as root, with the scanners at /run/judge, which is read-only and not a part of the
# image. Its arguments are profiles of the SCAP Security Guide. Prints one finding a line: what it is of, what it is
# about, and the result, with tabs between them.
set -eu
judge=/run/judge
results=$(mktemp -d /run/judge-results.XXXXXX)
# Scanners unpack scripts and run them, which /tmp and /run forbid where they are as they should be.
mount -t tmpfs tmpfs "$results"
tab=$(printf '\t')
lynis=default.prf

[ "$(systemd-detect-virt --container)" = none ] || . "$judge/container.sh"

# Who listens where.
ss --no-header --listening --tcp --udp --numeric --processes | while read -r protocol _ _ _ address _ process; do
  case $address in
    127.* | '[::1]'*) where=itself ;;
    *) where=everybody ;;
  esac
  echo "listens$tab$protocol $address $(echo "$process" | sed -n 's/.*(("\([^"]*\)".*/\1/p')$tab$where"
done
systemd-analyze security --no-pager 2> /dev/null | awk -v tab="$tab" 'NR > 1 && $2 ~ /^[0-9.]+$/ { print "exposure" tab $1 tab $2 }'

# Lynis is run from its folder, with its own files around it.
cp -R "$judge/lynis" "$results/lynis"
(cd "$results/lynis" && ./lynis audit system --quiet --no-colors --no-log --profile "$lynis" --report-file "$results/lynis.dat" > /dev/null 2>&1) || true
sed -n "s/^hardening_index=/lynis${tab}index$tab/p" "$results/lynis.dat"
sed -n 's/^\(warning\|suggestion\)\[\]=\([^|]*\)|\([^|]*\)|.*/\1\t\2\t\3/p' "$results/lynis.dat"

# A look at the integrity of the files takes its time; OpenSCAP asks systemd a lot, and is to be answered.
while systemctl is-active --quiet aidecheck; do sleep 1; done

loader=$(echo "$judge"/usr/lib/*/ld-linux-*.so.*)
libraries=${loader%/*}
export OSCAP_SCHEMA_PATH=$judge/usr/share/openscap/schemas OSCAP_XSLT_PATH=$judge/usr/share/openscap/xsl
export OSCAP_CPE_PATH=$judge/usr/share/openscap/cpe
export TMPDIR=$results
for profile in "$@"; do
  "$loader" --library-path "$libraries" "$judge/usr/bin/oscap" xccdf eval --progress \
    --profile "xccdf_org.ssgproject.content_profile_$profile" \
    "$judge/usr/share/xml/scap/ssg/content/ssg-debian12-ds.xml" 2> "$results/oscap.log" |
    sed -n "s/^xccdf_org.ssgproject.content_rule_\(.*\):\(pass\|fail\|error\|unknown\|notapplicable\|notchecked\)\$/$profile$tab\1$tab\2/p"
done

# What failed up to now, or is started again and again.
systemctl list-units --state=failed,auto-restart --plain --no-legend | while read -r unit _; do
  echo "unit$tab$unit${tab}failed"
done
