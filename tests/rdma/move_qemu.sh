# move_qemu.sh URI SECRETS MIGRATE-OPTION...: the faultline command moves a VM of stock QEMU, without KVM, to
# URI. SECRETS are options of both commands. The VM is tests/rdma/firmware.S; the RAM of both QEMUs is
# compared in the end. A line says for how many ends of connections the kernel has made TLS records.
uri=$1 secrets=$2
shift 2
cd /tmp && rm -f /dev/shm/ram.* ./*.qmp ./*.hook ./*.seen ./*.json

qemu() {  # qemu NAME OPTION...
  local name=$1
  shift
  exec qemu-system-x86_64 -accel tcg -M pc,memory-backend=ram -m 32M -cpu qemu64 -nodefaults \
    -no-user-config -vga none -display none -bios /tests/firmware.bin \
    -object memory-backend-file,id=ram,size=32M,mem-path=/dev/shm/ram.$name,share=on \
    -debugcon "file:$name.seen" -qmp "unix:$name.qmp,server=on,wait=off" \
    -plugin "/tests/faultline-qemu.so,socket=/tmp/$name.hook" "$@"
}
# await COMMAND...: until it succeeds.
await() {
  for _ in {1..300}; do
    "$@" > wait.out 2>&1 && return
    sleep 0.2
  done
  echo "in vain: $*"
  exit 1
}
tls_ends() { grep TlsTxSw /proc/net/tls_stat | grep -o '[0-9]*'; }

qemu source & source=$!
qemu destination -incoming defer & destination=$!
trap 'kill $source $destination' EXIT
await grep -q 'F\.' source.seen
await test -S destination.qmp
await test -S destination.hook
tls_before=$(tls_ends)
/tests/faultline receive --listen "$uri" --qmp unix:destination.qmp --hook unix:destination.hook $secrets --json > receive.json &
receive=$!
await grep -q listening receive.json
/tests/faultline migrate --to "$uri" --qmp unix:source.qmp --hook unix:source.hook $secrets --json "$@" > migrate.json
status=$?
wait $receive || status=$?
echo "tls=$(($(tls_ends) - tls_before))"
grep -v progress receive.json migrate.json
await grep -q '\.' destination.seen
grep -q X source.seen destination.seen && echo "the VM read a wrong word" && status=1
cmp /dev/shm/ram.source /dev/shm/ram.destination && echo "the RAM is the same" || status=1
exit $status
