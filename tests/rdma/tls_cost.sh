# tls_cost.sh TURNS: what TLS costs the source of a migration that is all push, with the kernel's records, with
# OpenSSL's, and without TLS, turn by turn: `NAME=CPU seconds a GiB` of the source's engine for each, and how
# many connections the kernel has made records for.
cd /tmp
turns=$1 mib=16
common="--memory-mib $mib --think-us 1000000 --before-ms 0 --after-ms 1 --compression off --integrity off"
(umask 077; echo rig:00112233445566778899aabbccddeeff > keys.psk)

# move NAME OPTION...: one migration over loopback.
move() {
  local name=$1 destination seconds
  shift
  /tests/faultline-bench destination --listen 127.0.0.1:4445 "$@" $common > destination.out 2>&1 & destination=$!
  /tests/faultline-bench source --to 127.0.0.1:4445 --wait-s 20 "$@" $common > source.out 2>&1
  wait $destination || cat destination.out
  seconds=$(grep -o '"engine_cpu_seconds":[0-9.e-]*' source.out) || cat source.out
  echo "$name=${seconds#*:} of $mib MiB"
}
kernel_sent() { grep TlsTxSw /proc/net/tls_stat | grep -o '[0-9]*' | { read -r count && echo "kernel_sent=$count"; }; }

kernel_sent
for ((turn = 0; turn < turns; turn++)); do
  move plain --insecure
  move kernel --tls-psk keys.psk
  kernel_sent
  rmmod tls
  move openssl --tls-psk keys.psk
  insmod /modules/tls.ko
done
