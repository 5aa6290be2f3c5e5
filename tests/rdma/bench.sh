# bench.sh ADDRESS: a sweep of faultline-bench's over both transports between two processes, as between two hosts
# of a cluster. Prints both sides' lines, and how many packets came to rxe0 meanwhile.
cd /tmp
packets() { cat /sys/class/infiniband/rxe0/ports/1/hw_counters/rcvd_pkts; }

echo '{"memory_mib": 4, "transport": ["tcp", "rdma"], "push": [true, false]}' > sweep.json
common="--insecure --sweep sweep.json --think-us 1000 --before-ms 100 --after-ms 1 --demand-only-ms 200"
before=$(packets)
/tests/faultline-bench destination --listen $1:4445 $common > destination.out & destination=$!
/tests/faultline-bench source --to $1:4445 --wait-s 20 $common > source.out
status=$?
wait $destination || status=1
cat source.out destination.out
echo "packets=$(($(packets) - before))"
exit $status
