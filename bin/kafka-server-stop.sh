#!/bin/sh
# Asks the Milena servers of this machine to stop (SIGTERM). --process-role=ROLES or --node-id=ID: only those whose
# properties file says so.
role= id=
for arg; do
    case $arg in
        --process-role=*) role=${arg#*=} ;;
        --node-id=*) id=${arg#*=} ;;
        *)
            echo "USAGE: $0 [--process-role=ROLES] [--node-id=ID]" >&2
            case $arg in -h | --help) exit 0 ;; esac
            exit 1
            ;;
    esac
done
pids=$(ps ax -o pid= -o args= | awk '
    { n = split($2, path, "/") }
    path[n] == "milena" && ($3 == "kafka-server-start" || NF == 2) { print $1 }')
if [ -z "$pids" ]; then
    echo "No kafka server to stop"
    exit 1
fi
for pid in $pids; do
    file=$(ps -p "$pid" -o args= | awk '{ print $3 }')
    case $file in /*) ;; ?*) file=/proc/$pid/cwd/$file ;; esac
    value() { sed -n "s/^$1=//p" "$file" 2>/dev/null | tail -n 1; }
    if [ -n "$id" ]; then
        [ "$(value 'node\.id')" = "$id" ] || continue
    elif [ -n "$role" ]; then
        [ "$(value 'process\.roles')" = "$role" ] || continue
    fi
    kill -s "${SIGNAL:-TERM}" "$pid"
done
