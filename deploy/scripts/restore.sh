#!/usr/bin/env bash
# restore.sh [--from PLACE] [--snapshot ID] [--position N | --time T] [--yes]
#
# Put the data folder back as a backup has it (default: the newest snapshot of BACKUP_DESTINATION). The backup is brought
# beside the data folder and verified while the service goes on; only then the service is stopped, the folders are
# switched and it is started. The present state stays beside as <data>.before-<time>: nothing is deleted. What the
# present log says was forgotten stays forgotten. Keys, ignore rules and retention go along; they are in no backup.
# Where the service does not become ready the folders are switched back. A present log that is damaged, or another one (on
# a new machine), stays beside in the same way.
# --position, --time: only what was recorded up to there, as a fork of the log with an id of its own.
#
# Exit codes: 0 done; 1 the service did not become ready, the state before is back; 2 wrong request, not confirmed,
# or an installation at work; 3 data folder unusable; 4 the backup is damaged; 5 it cannot be reached or written. 2 to 5: nothing
# was switched.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

from='' yes='' options=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit 0 ;;
    --yes) yes=1 && shift && continue ;;
    --from | --snapshot | --position | --time) [ $# -ge 2 ] || fail 2 "$1 wants a value; see --help" ;;
    *) fail 2 "unknown option $1; see --help" ;;
  esac
  if [ "$1" = --from ]; then from=$2; else options+=("$1" "$2"); fi
  shift 2
done
read_env "$ETC_DIR/service.env" "$ETC_DIR/deploy.env"
find_program
from=${from:-${BACKUP_DESTINATION:-}}
data=${SESSION_MGMT_DATA_DIR:-}
[ -n "$from" ] || fail 2 "name the backup with --from, or BACKUP_DESTINATION in $ETC_DIR/deploy.env"
[ -n "$data" ] || fail 2 "SESSION_MGMT_DATA_DIR is not set; name the data folder in $ETC_DIR/service.env"
[ ! -L "$data" ] || fail 2 "$data is a link; set SESSION_MGMT_DATA_DIR to the folder itself"
data=$(realpath -m "$data")
if mountpoint -q "$data"; then
  fail 2 "$data is a mount point and cannot be renamed; restore with \`session-mgmt-mcp restore\` to a folder" \
    "below it, and name that in $ETC_DIR/service.env"
fi
now=$(date -u +%Y%m%dT%H%M%SZ)
older=${options[*]}
new=$data.restored-$now
before=$data.before-$now
switched=''
exec 9<"$(dirname "$data")"
flock -n 9 || fail 2 "an installation or another restore is at work beside $data; wait until it is done"

# What the present log says was forgotten is read from where SESSION_MGMT_DATA_DIR leads, as far as it can be read.
"$PROGRAM" restore "$from" --to "$new" "${options[@]}"
SESSION_MGMT_DATA_DIR=$new "$PROGRAM" audit verify
if [ -d "$data" ]; then
  chown -R --reference="$data" "$new"
elif [ "$(id -u)" = 0 ] && id -u session-mgmt >/dev/null 2>&1; then
  chown -R session-mgmt:session-mgmt "$new"
fi

[ -n "$SYSTEMCTL" ] || say "No systemd runs here: stop yourself what works on $data."
if [ -z "$yes" ]; then
  say "The service will be stopped, $data become $before, and $new take its place."
  read -r -p "Go on? [y/N] " answer || answer=
  if [[ ! $answer =~ ^[yY] ]]; then
    fail 2 "left as it was; what was restored is in $new"
  fi
fi

carry_over() { # what is of this installation and in no backup
  local name
  for name in access.json ignore paused retention.json backups.json; do
    if [ -f "$data/$name" ]; then cp -p "$data/$name" "$new/$name"; fi
  done
}

has_unit() { [ -n "$SYSTEMCTL" ] && "$SYSTEMCTL" cat "$SERVICE" >/dev/null 2>&1; }

service() { # start or stop: the socket too, or a client's connection would start the service in between
  has_unit || return 0
  local units=("$SOCKET" "$SERVICE")
  if [ "$1" = stop ]; then units+=('session-mgmt-mcp-*.service'); fi # a backup of half the one and half the other
  "$SYSTEMCTL" "$1" "${units[@]}"
}

ready() {
  has_unit || return 0
  wait_ready "${HEALTH_URL:-http://127.0.0.1:8000}" "${READY_WITHIN_S:-60}"
}

put_back() { # whatever went wrong: the state before, and the service
  service stop || true
  if [ "$switched" ]; then mv -T "$data" "$new"; fi
  if [ -d "$before" ]; then mv -T "$before" "$data"; fi
  service start || true
  say "the state before is back; what was restored is in $new" >&2
}

trap '' INT TERM HUP # half of what follows would leave no service, and it ends by itself
trap put_back EXIT
service stop
if [ -d "$data" ]; then
  carry_over
  mv -T "$data" "$before"
fi
mv -T "$new" "$data"
switched=1
if ! { service start && ready; }; then fail 1 "the service did not become ready"; fi
trap - EXIT
say "restored: $data; the state before is in $before"
if [ "$older" ]; then say "The next backup needs a place of its own: change BACKUP_DESTINATION in $ETC_DIR/deploy.env."; fi
