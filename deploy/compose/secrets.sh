#!/bin/sh
# Makes what compose.yaml takes from files, once: an admin's key and, where you bring none, a certificate for trying. What
# is there is never written over. `--metrics` makes Prometheus' key, for which the service has to be up.
#   ./secrets.sh [NAME]        NAME: the name clients use (default localhost), kept in .env
#   ./secrets.sh --metrics
set -eu
umask 077
cd "$(dirname "$0")"
mkdir -p secrets
# The engine hands a file on with the owner and mode it has, and the service is another user: the files can be read by
# all, the folder only by you.
chmod 0700 secrets
# The containers' users read these, whatever umask the clone was made with.
chmod go+rX nginx.conf ../nginx ../nginx/*.conf ../monitoring/*.yml ||
  echo "containers may not be able to read all of ../nginx and ../monitoring" >&2

keep() { # FILE: moves stdin there, unless it is there already
  if [ -s "$1" ]; then
    echo "$1 is there already; nothing was changed"
    return
  fi
  cat >"$1.new"
  [ -s "$1.new" ] || { rm -f "$1.new"; echo "$1 could not be made" >&2; exit 1; }
  chmod 0444 "$1.new"
  mv "$1.new" "$1"
  echo "made $1"
}

compose() { # the plugin, or the program of its own
  if docker compose version >/dev/null 2>&1; then docker compose "$@"; else docker-compose "$@"; fi
}

case ${1:-} in
--metrics)
  if [ -s secrets/metrics_key ]; then
    echo "secrets/metrics_key is there already; nothing was changed"
    exit 0
  fi
  compose exec -T app session-mgmt-mcp keys create prometheus --role reader --scope metrics --all-projects |
    keep secrets/metrics_key
  ;;
-*)
  sed -n '2,5p' "$0" >&2
  exit 2
  ;;
*)
  id=$(openssl rand -hex 6) # by itself, so that a missing openssl ends this and leaves no half a key
  secret=$(openssl rand -hex 32)
  printf 'smk_%s_%s' "$id" "$secret" | keep secrets/admin_key
  sh ../nginx/self-signed.sh secrets "${1:-localhost}"
  # compose.yaml reads it there: the service answers to no other name.
  if grep -s '^SESSION_MGMT_PUBLIC_NAME=' .env; then
    echo ".env has that name already; nothing was changed"
  else
    echo "SESSION_MGMT_PUBLIC_NAME=${1:-localhost}" >>.env
  fi
  chmod 0444 secrets/tls.key secrets/tls.crt
  ;;
esac
