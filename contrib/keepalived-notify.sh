#!/bin/sh
# A notify script of keepalived that tells hax route: install as /etc/keepalived/hax-notify.sh, and in the
# vrrp_instance of both routers say
#
#     notify "/etc/keepalived/hax-notify.sh"
#
# keepalived gives "INSTANCE" or "GROUP", its name, the new state and the priority. This router has become the
# master: the other one has failed, or gave way; for redundancy nodes FIRST to LAST it becomes the next hop. A
# primary that comes back reverts by itself (--revert-after), or at its own change to MASTER.
set -eu

first=${HAX_FIRST:-1}
last=${HAX_LAST:-1023}
state=${3:-}

case $state in
  # It is not waited for: keepalived runs one notify script at a time.
  MASTER) exec node_event -i "$first" -mi "$last" -e peerFail --no-wait ;;
  BACKUP | FAULT | STOP) exit 0 ;;
  *) echo "hax-notify: expected keepalived's arguments, got: $*" >&2; exit 2 ;;
esac
