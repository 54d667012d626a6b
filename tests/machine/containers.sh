#!/bin/sh
# What is done on a virtual machine: containers are run, and tell what they may and whom they reach.
set -eu
exec 2>&1
trap 'echo end' EXIT
systemctl is-system-running --quiet --wait || true
# A box with what answers, and what asks and needs no resolver.
libraries=$(ldd /bin/bash | grep -o '/[^ ]*')
tar --create --dereference --directory=/ bin/busybox bin/bash $libraries 2> /dev/null | docker import - box > /run/import

echo "privileges: $(docker run --rm box busybox grep NoNewPrivs /proc/self/status | tr -s '[:space:]' ' ')"
docker run --detach --name server --publish 8080:80 box busybox httpd -f -p 80 > /run/server
inside=$(docker inspect --format '{{.NetworkSettings.Networks.bridge.IPAddress}}' server)
reaches() {
  address=$1
  shift
  if "$@" bash -c "exec 3<>/dev/tcp/$address/80" > /run/reached 2>&1; then echo yes; else echo "no: $(tail -n 1 /run/reached)"; fi
}
echo "host reaches a container: $(reaches "$inside" timeout 20)"
echo "container reaches another: $(reaches "$inside" timeout 20 docker run --rm box)"
echo "container reaches itself: $(reaches 127.0.0.1 timeout 20 docker exec server)"
echo "log: $(docker inspect --format '{{.HostConfig.LogConfig.Type}} {{index .HostConfig.LogConfig.Config "max-size"}}' server)"
started=$(docker inspect --format '{{.State.StartedAt}}' server)
systemctl restart docker
[ "$started" = "$(docker inspect --format '{{.State.StartedAt}}' server)" ]
echo "outlives the daemon: $(docker inspect --format '{{.State.Running}}' server)"
