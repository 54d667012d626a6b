# Makes a container the host that its image would be on a machine of its own, as far as that goes. Part of `inside.sh`.

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

lynis=container.prf
