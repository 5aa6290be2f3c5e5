#!/bin/bash
# The RDMA guest's first process: makes two soft-RoCE devices, runs /cases, and powers off.
# A line of /cases is "NAME SECONDS COMMAND"; what it prints goes to the second serial line, between
# two lines of this script's; the second one ends with its status and how long it took, in 10 ms. Of two guests that are joined each has a `side` (from the kernel's
# command line), source or destination: they have one device each, on the network between them, and
# run /casesSIDE.
export PATH=/usr/bin:/bin GTEST_COLOR=no
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/hugepages /run /var/lib
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp

# device NUMBER INTERFACE ADDRESS: a soft-RoCE device on a network device.
device() {
  ip link set "$2" mtu 9000 up  # so that a packet holds a page
  ip address add "$3/24" dev "$2"
  rdma link add "rxe$1" type rxe netdev "$2"
}

while read -r module options; do
  insmod "/modules/$module.ko" $options || echo "init: no $module" > /dev/ttyS1
done < /modules/order
ip link set lo up
case $side in
  source) device 0 eth0 10.9.9.1 ;;
  destination) device 0 eth0 10.9.9.2 ;;
  *)
    for number in 0 1; do
      ip link add "dummy$number" type dummy
      device "$number" "dummy$number" "10.9.$number.1"
    done
    ;;
esac

while read -r name seconds command <&3; do
  read -r begin _ < /proc/uptime
  echo "@@begin $name" > /dev/ttyS1
  timeout -k 5 "$seconds" bash -c "$command" < /dev/null > /dev/ttyS1 2>&1
  status=$?
  read -r end _ < /proc/uptime
  echo "@@end $name $status $((${end/./} - ${begin/./}))" > /dev/ttyS1
done 3< "/cases$side"
echo "@@done" > /dev/ttyS1
sync
echo o > /proc/sysrq-trigger
sleep 60
