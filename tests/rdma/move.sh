# move.sh URI whole|cut|down|rail_down OPTION...: a whole post-copy of the example VMM between two processes,
# every page checked. With `cut` the port of rxe0 goes down and up again once the VM runs at the destination;
# with `down` it stays down, which TCP between this guest's own addresses does without; with `rail_down` the
# port of rxe1 does, once some of the memory has come over it. The last lines say how many packets came to rxe0
# and to rxe1 meanwhile, how many SENDs they have done (one behind each WRITE, and a few that connect queue pairs), and for how
# many ends of connections the kernel has made TLS records.
uri=$1 cut=$2
shift 2
cd /tmp && rm -f destination.out

counter() { echo /sys/class/infiniband/rxe$1/ports/1/hw_counters/$2; }
packets() { cat "$(counter $1 rcvd_pkts)"; }
sends() { cat "$(counter $1 rdma_sends)"; }
# mend NUMBER: the device's connection manager may be dead for good (below), so the device is made anew.
mend() {
  ip link set dummy$1 up
  rdma link delete rxe$1
  rdma link add rxe$1 type rxe netdev dummy$1
}
tls_ends() { grep TlsTxSw /proc/net/tls_stat | grep -o '[0-9]*'; }

sends_before=$(sends 0) other_sends_before=$(sends 1)
packets_before=$(packets 0) other_before=$(packets 1) tls_before=$(tls_ends)
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
  trap 'mend 0' EXIT
elif [[ $cut == rail_down ]]; then
  other=$(counter 1 rcvd_pkts)
  (until read -r seen < $other && ((seen >= other_before + 200)); do :; done
   ip link set dummy1 down) &
  trap 'mend 1' EXIT
fi
/tests/example-vmm source "$uri" "$@"
status=$?
wait $destination || status=1
cat destination.out
echo "packets=$(($(packets 0) - packets_before))"
echo "other_packets=$(($(packets 1) - other_before))"
echo "sends=$(($(sends 0) - sends_before))"
echo "other_sends=$(($(sends 1) - other_sends_before))"
echo "tls=$(($(tls_ends) - tls_before))"
exit $status
