#!/bin/sh
# In the place of the first process of a virtual machine, which comes after it. The second disk is a folder with this script and
# `task.sh`, so that nothing is put on that of the image. When everything is up the task is run, and speaks over a serial line with
# who asks.
set -eu
line=/dev/ttyS1

# As QEMU's network has it, which nobody is asked about.
device=$(ls /sys/class/net | grep -v '^lo$')
ip address add 10.0.2.15/24 dev "$device"
ip link set "$device" up
ip route add default via 10.0.2.2
mkdir -p /run/systemd/system/multi-user.target.wants
cat > /run/systemd/system/task.service << END
[Unit]
After=multi-user.target
[Service]
ExecStartPre=/bin/stty -F $line raw -echo
ExecStart=/bin/sh /run/task/task.sh
StandardInput=file:$line
StandardOutput=file:$line
StandardError=journal+console
END
ln -s ../task.service /run/systemd/system/multi-user.target.wants/
