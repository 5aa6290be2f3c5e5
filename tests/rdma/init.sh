#!/bin/bash
# The RDMA guest's first process: makes two soft-RoCE devices, runs /cases, and powers off.
# A line of /cases is "NAME SECONDS COMMAND"; what it prints goes to the second serial line, between
# two lines of this script's.
export PATH=/usr/bin:/bin GTEST_COLOR=no
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/hugepages /run
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp

# device NUMBER: a network device with a soft-RoCE device on it.
device() {
  ip link add "dummy$1" type dummy
  ip link set "dummy$1" mtu 9000 up  # so that a packet holds a page
  ip address add "10.9.$1.1/24" dev "dummy$1"
  rdma link add "rxe$1" type rxe netdev "dummy$1"
}

while read -r module options; do
  insmod "/modules/$module.ko" $options || echo "init: no $module" > /dev/ttyS1
done < /modules/order
ip link set lo up
device 0
device 1

while read -r name seconds command <&3; do
  echo "@@begin $name" > /dev/ttyS1
  timeout -k 5 "$seconds" bash -c "$command" < /dev/null > /dev/ttyS1 2>&1
  echo "@@end $name $?" > /dev/ttyS1
done 3< /cases
echo "@@done" > /dev/ttyS1
sync
echo o > /proc/sysrq-trigger
sleep 60
