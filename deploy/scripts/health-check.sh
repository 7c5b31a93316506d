#!/usr/bin/env bash
# health-check.sh [--url URL] [--disk-max PERCENT] [--backup-age-max HOURS]
#
# Whether the service is alive and ready, its disk has room, and (if asked) there is a backup young enough: a line for each,
# "ok" or "FAILED". The URL is HEALTH_URL of the environment or of /etc/session-mgmt-mcp/deploy.env, else
# http://127.0.0.1:8000. --disk-max is 90 unless given.
#
# Exit codes: 0 all is well, 1 something is not, 2 wrong request.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

url='' disk_max=90 age_max=''
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit 0 ;;
    --url | --disk-max | --backup-age-max) [ $# -ge 2 ] || fail 2 "$1 wants a value; see --help" ;;
    *) fail 2 "unknown option $1; see --help" ;;
  esac
  case $1 in
    --url) url=$2 ;;
    --disk-max) disk_max=$2 ;;
    --backup-age-max) age_max=$2 ;;
  esac
  shift 2
done
[[ $disk_max =~ ^[0-9]+$ ]] || fail 2 "--disk-max $disk_max is no number of percent"
[[ $age_max =~ ^[0-9]*$ ]] || fail 2 "--backup-age-max $age_max is no number of hours"
read_env "$ETC_DIR/service.env" "$ETC_DIR/deploy.env"
find_program
url=${url:-${HEALTH_URL:-http://127.0.0.1:8000}}
sick=0

tell() { # outcome (0: well), what, words…
  local outcome=$1 what=$2
  shift 2
  if [ "$outcome" -eq 0 ]; then
    say "ok      $what: $*"
  else
    say "FAILED  $what: $*"
    sick=1
  fi
}

check_unit() {
  [ -n "$SYSTEMCTL" ] && "$SYSTEMCTL" cat "$SERVICE" >/dev/null 2>&1 || return 0
  local state outcome=0
  state=$("$SYSTEMCTL" is-active "$SERVICE") || outcome=1
  tell "$outcome" unit "$state"
}

check_endpoint() { # path
  local answer outcome=0
  answer=$(probe "${url%/}$1" 2>&1) || outcome=1
  tell "$outcome" "$1" "${answer:-no answer}"
}

check_disk() {
  local folder=${SESSION_MGMT_DATA_DIR:-} used
  if [ -z "$folder" ]; then return 0; fi
  used=$(df -P "$folder" 2>/dev/null | awk 'NR == 2 { sub("%", "", $5); print $5 }')
  if [ -z "$used" ]; then
    tell 1 disk "$folder cannot be looked at"
    return 0
  fi
  tell "$((used > disk_max))" disk "$used % used where $folder is"
}

check_backup() {
  if [ -z "$age_max" ]; then return 0; fi
  [ -n "${BACKUP_DESTINATION:-}" ] || fail 2 "BACKUP_DESTINATION is not set; name it in $ETC_DIR/deploy.env"
  local listed made hours
  if ! listed=$("$PROGRAM" backup "$BACKUP_DESTINATION" --list --json); then
    tell 1 backup "$BACKUP_DESTINATION cannot be listed"
    return 0
  fi
  made=$(printf '%s' "$listed" | grep -o '"created_at": *[0-9]*' | grep -o '[0-9]*$' | sort -n | tail -1) || true
  if [ -z "$made" ]; then
    tell 1 backup "$BACKUP_DESTINATION holds none"
    return 0
  fi
  hours=$((($(date +%s) - made / 1000000) / 3600))
  tell "$((hours >= age_max))" backup "the newest is $hours hours old"
}

check_unit
check_endpoint /health
check_endpoint /ready
check_disk
check_backup
exit "$sick"
