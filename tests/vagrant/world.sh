# The first process of a world of its own: libvirt in it, with what it keeps in the folder that is named first. Nothing of
# this machine is changed, and all of it ends with this process.
folder=$1
mount -t tmpfs -o mode=755 none /run
for path in /etc/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do
  mkdir -p "$folder/state$path"
  mount --bind "$folder/state$path" "$path"
done
mkdir -p /var/lib/libvirt/images /etc/libvirt/qemu
cat > /etc/libvirt/qemu.conf <<'END'
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
END
# There is no polkit here.
echo 'auth_unix_rw = "none"' > /etc/libvirt/libvirtd.conf
ip link set lo up
virtlogd --daemon
libvirtd --daemon
for try in $(seq 100); do
  if virsh --connect qemu:///system list >/dev/null 2>&1; then
    echo ready
    # Not in its place: as the first process it takes leave of those that end, or libvirt takes them for alive.
    cat >/dev/null
    exit
  fi
  sleep 0.2
done
cat /var/log/libvirt/*.log >&2
echo "libvirt does not answer" >&2
exit 1
