# one_gone.sh WHO PHASE: moves the example VMM over RDMA and kills one side, source or destination, as the
# destination's PHASE begins; whoever is left gives up soon.
who=$1 phase=$2
uri=rdma://10.9.0.1:4444
cd /tmp && rm -f source.out destination.out
/tests/example-vmm destination $uri --insecure --recovery-s 2 > destination.out 2>&1 & destination=$!
until grep -qs listening destination.out; do sleep 0.1; done
/tests/example-vmm source $uri --insecure --recovery-s 2 > source.out 2>&1 & source=$!
until grep -qs "phase $phase" destination.out; do :; done  # it may be short
kill -9 "${!who}"
wait $source; a=$?
wait $destination; b=$?
cat source.out destination.out
rm source.out destination.out
echo "ended: source $a, destination $b"
