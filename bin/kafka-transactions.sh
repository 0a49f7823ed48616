#!/bin/sh
here=$(dirname "$0")
bin=${MILENA_BIN:-$here/../target/release/milena}
[ -x "$bin" ] || bin=milena
exec "$bin" kafka-transactions "$@"
