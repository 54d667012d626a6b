#!/bin/sh
# What is done on a virtual machine: containers are run, and tell what they may and whom they reach.
set -eu
exec 2>&1
trap 'echo end' EXIT
systemctl is-system-running --quiet --wait || true
tar --create --directory=/usr bin/busybox | docker import --change 'ENTRYPOINT ["/bin/busybox"]' - box > /run/import

echo "privileges: $(docker run --rm box grep NoNewPrivs /proc/self/status | tr -s '[:space:]' ' ')"
docker run --detach --name server --publish 8080:80 box httpd -f -p 80 > /run/server
inside=$(docker inspect --format '{{.NetworkSettings.Networks.bridge.IPAddress}}' server)
reaches() {
  if timeout 20 "$@" > /run/reached 2>&1; then echo yes; else echo "no: $(tail -n 1 /run/reached)"; fi
}
echo "host reaches a container: $(reaches busybox nc -z -w 10 "$inside" 80)"
echo "container reaches another: $(reaches docker run --rm box nc -z -w 10 "$inside" 80)"
echo "container reaches itself: $(reaches docker exec server /bin/busybox nc -z -w 10 127.0.0.1 80)"
echo "log: $(docker inspect --format '{{.HostConfig.LogConfig.Type}} {{index .HostConfig.LogConfig.Config "max-size"}}' server)"
started=$(docker inspect --format '{{.State.StartedAt}}' server)
systemctl restart docker
[ "$started" = "$(docker inspect --format '{{.State.StartedAt}}' server)" ]
echo "outlives the daemon: $(docker inspect --format '{{.State.Running}}' server)"
