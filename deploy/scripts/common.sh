# shellcheck shell=bash disable=SC2034
# What the scripts share; sourced, not run. Bash 4.4 or later.
#   ETC_DIR     where service.env and deploy.env are (default /etc/session-mgmt-mcp)
#   SYSTEMCTL   the systemctl to call; empty: no service manager here (default: systemctl, where systemd runs)

ETC_DIR=${ETC_DIR:-/etc/session-mgmt-mcp}
SERVICE=session-mgmt-mcp.service
SOCKET=session-mgmt-mcp.socket
if [ -z "${SYSTEMCTL+set}" ]; then
  SYSTEMCTL=
  if [ -d /run/systemd/system ]; then SYSTEMCTL=systemctl; fi
fi

say() { printf '%s\n' "$*"; }

fail() { # exit code, words…
  local code=$1
  shift
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit "$code"
}

usage() { # prints the comment at the top of the script
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
}

# Variables of the environment win over those of the files, as they do for the service. Nothing in the files is executed.
read_env() { # file…
  local file line name value
  for file; do
    [ -r "$file" ] || continue
    while IFS= read -r line || [ -n "$line" ]; do
      [[ $line =~ ^[A-Za-z_][A-Za-z0-9_]*= ]] || continue
      name=${line%%=*} value=${line#*=}
      if [[ $value =~ ^\"(.*)\"$ || $value =~ ^\'(.*)\'$ ]]; then value=${BASH_REMATCH[1]}; fi
      if [ -z "${!name+set}" ]; then export "$name=$value"; fi
    done <"$file"
  done
}

find_program() { # sets PROGRAM and PYTHON: the release's own, else what is on PATH
  local venv
  venv=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/venv/bin
  if [ -x "$venv/session-mgmt-mcp" ]; then
    PROGRAM=$venv/session-mgmt-mcp PYTHON=$venv/python
    return
  fi
  PROGRAM=$(command -v session-mgmt-mcp) ||
    fail 2 "session-mgmt-mcp is not on PATH; activate the environment it is installed in"
  PYTHON=$(command -v python3) || fail 2 "python3 is not on PATH"
}

as_owner() { # command…: in place of this script, as the user whose the data folder is, at home where that user is
  local user
  user=$(stat -c %U "${SESSION_MGMT_DATA_DIR:?name the data folder in $ETC_DIR/service.env}")
  if [ "$(id -un)" = "$user" ]; then exec "$@"; fi
  [ "$(id -u)" = 0 ] || fail 2 "only root or $user may do that; put sudo in front"
  exec runuser -u "$user" -- env -u XDG_CONFIG_HOME HOME="$(getent passwd "$user" | cut -d: -f6)" "$@"
}

probe() { # URL: prints the answer's body; fails where it is not 200
  "$PYTHON" -I -S "$(dirname "${BASH_SOURCE[0]}")/probe.py" "$1"
}

wait_ready() { # URL, seconds: until /ready says 200
  local deadline=$((SECONDS + $2)) answer
  until answer=$(probe "${1%/}/ready" 2>&1); do
    if [ "$SECONDS" -ge "$deadline" ]; then
      printf '%s\n' "$answer" >&2
      return 1
    fi
    sleep 0.3
  done
}
