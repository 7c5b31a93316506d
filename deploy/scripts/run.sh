#!/usr/bin/env bash
# run.sh COMMAND [ARGUMENTS…]
#
# Run a command of session-mgmt-mcp on the service's data folder, as its user and with its settings. As root:
#   /opt/session-mgmt/current/deploy/scripts/run.sh status
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

case "${1-}" in
  "" | -h | --help) usage && exit 0 ;;
esac
read_env "$ETC_DIR/service.env"
find_program
cd / # the caller's folder may be closed to that user
as_owner "$PROGRAM" "$@"
