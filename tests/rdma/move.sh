# move.sh URI whole|cut|down OPTION...: a whole post-copy of the example VMM between two processes, every page
# checked. With `cut` the device's port goes down and up again once the VM runs at the destination; with
# `down` it stays down, which TCP between this guest's own addresses does without. The last lines say how
# many packets came to rxe0 meanwhile, and for how many ends of connections the kernel has made TLS records.
uri=$1 cut=$2
shift 2
cd /tmp && rm -f destination.out

packets() { cat /sys/class/infiniband/rxe0/ports/1/hw_counters/rcvd_pkts; }
tls_ends() { grep TlsTxSw /proc/net/tls_stat | grep -o '[0-9]*'; }

packets_before=$(packets) tls_before=$(tls_ends)
/tests/example-vmm destination "$uri" "$@" > destination.out 2>&1 & destination=$!
while ! grep -q listening destination.out; do
  kill -0 $destination || { cat destination.out; exit 1; }
  sleep 0.1
done
if [[ $cut == cut ]]; then
  # At once, since rxe's connection manager is dead for good if it has to speak while its port is down.
  (until grep -q post-copy destination.out; do :; done
   echo -e 'link set dummy0 down\nlink set dummy0 up' | ip -batch -) &
elif [[ $cut == down ]]; then
  (until grep -q post-copy destination.out; do :; done; ip link set dummy0 down) &
  trap 'ip link set dummy0 up' EXIT
fi
/tests/example-vmm source "$uri" "$@"
status=$?
wait $destination || status=1
cat destination.out
echo "packets=$(($(packets) - packets_before))"
echo "tls=$(($(tls_ends) - tls_before))"
exit $status
