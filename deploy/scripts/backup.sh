#!/usr/bin/env bash
# backup.sh [--verify]
#
# Bring the session log to BACKUP_DESTINATION: only what is new, every copy read back, while the service goes on.
# With --verify: read every byte of the log and of the newest backup, and check both against the hash chain.
# The destination, BACKUP_KEEP and BACKUP_KEEP_DAYS come from the environment or from /etc/session-mgmt-mcp/deploy.env,
# the data folder from service.env beside it. A timer runs both; without systemd, crontab.example does. As root it goes
# on as the user whose the data folder is: what root wrote there, the next backup could not.
#
# Exit codes are the program's: 0 done, 1 done but nothing old could be removed, 2 wrong request, 3 data folder unusable,
# 4 log or backup damaged, 5 the destination cannot be reached or written.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

case "${1-}" in
  -h | --help) usage && exit 0 ;;
  "" | --verify) ;;
  *) fail 2 "unknown option $1; see --help" ;;
esac
[ $# -le 1 ] || fail 2 "one option at most; see --help"
read_env "$ETC_DIR/service.env" "$ETC_DIR/deploy.env"
find_program
if [ "$(id -u)" = 0 ] && [ "$(stat -c %u "${SESSION_MGMT_DATA_DIR:-}" 2>/dev/null || echo 0)" != 0 ]; then
  self=$(realpath "$0")
  cd / # the caller's folder may be closed to that user
  as_owner "$self" "$@"
fi
destination=${BACKUP_DESTINATION:-}
[ -n "$destination" ] ||
  fail 2 "BACKUP_DESTINATION is not set; name a folder or URL in $ETC_DIR/deploy.env, which root alone may read"

if [ "${1-}" = --verify ]; then
  "$PROGRAM" audit verify
  "$PROGRAM" backup "$destination" --verify
  exit
fi
keep=()
if [ -n "${BACKUP_KEEP:-}" ]; then keep+=(--keep "$BACKUP_KEEP"); fi
if [ -n "${BACKUP_KEEP_DAYS:-}" ]; then keep+=(--keep-days "$BACKUP_KEEP_DAYS"); fi
exec "$PROGRAM" backup "$destination" "${keep[@]}"
