#!/bin/sh
# In a virtual machine, whose second disk is the folder of the scanners and this script, so that nothing is put on that of the
# image. `begin` is run in the place of the first process, which comes after it; `judge` when everything is up: it speaks over a
# serial line with who asks.
set -eu
judge=/run/judge
line=/dev/ttyS1

case $1 in
begin)
  # As QEMU's network has it, which nobody is asked about.
  device=$(ls /sys/class/net | grep -v '^lo$')
  ip address add 10.0.2.15/24 dev "$device"
  ip link set "$device" up
  ip route add default via 10.0.2.2
  mkdir -p /run/systemd/system/multi-user.target.wants
  cat > /run/systemd/system/judge.service << END
[Unit]
After=multi-user.target
[Service]
ExecStart=/bin/sh $judge/machine.sh judge
StandardOutput=file:$line
StandardError=journal+console
END
  ln -s ../judge.service /run/systemd/system/multi-user.target.wants/
  ;;
judge)
  stty -F $line raw -echo
  exec < $line
  systemctl is-system-running --quiet --wait || true
  # Who asks a server as much as ssh-audit does is banned.
  systemctl stop fail2ban
  port=$(/usr/sbin/sshd -T | sed -n "s/^port //p")
  until ss -Htln | grep -q ":$port "; do sleep 1; done
  echo up
  read -r profiles
  systemctl start fail2ban
  sh $judge/inside.sh $profiles || echo "inside.sh failed"
  echo end
  ;;
esac
