#!/bin/sh
here=$(dirname "$0")
bin=${MILENA_BIN:-$here/../target/release/milena}
[ -x "$bin" ] || bin=milena
# As in Kafka: -daemon puts the server into the background, away from this terminal.
if [ "${1:-}" = -daemon ]; then
    shift
    nohup "$bin" kafka-server-start "$@" >"${LOG_FILE:-milena.out}" 2>&1 </dev/null &
    exit 0
fi
exec "$bin" kafka-server-start "$@"
