#!/bin/bash
# Tells hax route when FRR's BFD session to the other router goes down: run beside bfdd, as a service that is
# started again when it ends (`Restart=always`).
#
#     frr-bfd-hook.sh PEER-ADDRESS
#
# FRR has no hook of its own for BFD: this asks vtysh twice a second. A session that has never been up says
# nothing, and one that was shut down on purpose neither.
set -euo pipefail

peer=${1:?usage: frr-bfd-hook.sh PEER-ADDRESS}
first=${HAX_FIRST:-1}
last=${HAX_LAST:-1023}
every=${HAX_EVERY:-0.5}
before=unknown

while true; do
  said=$(vtysh -c "show bfd peer $peer json" 2>/dev/null || true)
  case $said in
    *'"status":"up"'* | *'"status": "up"'*) now=up ;;
    *'"status":"down"'* | *'"status": "down"'*) now=down ;;
    *) now=unknown ;;
  esac
  if [[ $before == up && $now == down ]]; then
    node_event -i "$first" -mi "$last" -e peerFail --no-wait || echo "frr-bfd-hook: node_event failed" >&2
  fi
  [[ $now == unknown ]] || before=$now
  sleep "$every"
done
