#!/bin/sh
# What is done on a virtual machine: scanners look at it, from outside and from inside.
set -eu
judge=/run/judge
ln -s /run/task $judge

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
