#!/usr/bin/env bash
# install.sh [--source REPOSITORY|WHEEL] [--extra NAME]… [--wheels FOLDER] [--python PYTHON] [--keep N] [--wait SECONDS]
# install.sh --rollback | --list | --uninstall
#
# Install or upgrade session-mgmt-mcp as a systemd service, as root. Each release gets a folder and a virtual environment of
# its own under /opt/session-mgmt/releases; /opt/session-mgmt/current is switched to it at once, and the service is
# restarted behind its socket. Where /ready does not say 200 within --wait (60 s), the release before is put back and
# started again. Installing the same thing twice builds nothing. Data, logs, backups and settings are never removed.
#   --source    what to install (default: the repository this script is in)
#   --extra     an optional feature of the package (embeddings)
#   --wheels    a folder of wheels to install from, for hosts without a network (made with `pip wheel`)
#   --python    the interpreter, 3.11 or later (default python3)
#   --keep      how many releases stay (default 3)
#   --rollback  go back to the release before, and forth again
#   --list      name the releases
#   --uninstall stop the service, remove units and releases
#   --root DIR  under this folder instead of /, without user and ownership: to look at, to test
#
# Exit codes: 0 done; 1 not installed, or rolled back; 2 wrong request.
set -euo pipefail
shopt -s inherit_errexit # a wheel that cannot be built ends it
umask 022 # whatever root's is: the service's user has to get at what is installed
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../scripts/common.sh
. "$here/../scripts/common.sh"

action=install root='' source=$here/../.. wheels='' python=python3 keep=3 wait_s=60 extras=''
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage && exit 0 ;;
    --rollback | --list | --uninstall) action=${1#--} && shift && continue ;;
    --source | --extra | --wheels | --python | --keep | --wait | --root)
      [ $# -ge 2 ] || fail 2 "$1 wants a value; see --help" ;;
    *) fail 2 "unknown option $1; see --help" ;;
  esac
  case $1 in
    --source) source=$2 ;;
    --extra) extras=${extras:+$extras,}$2 ;;
    --wheels) wheels=$2 ;;
    --python) python=$2 ;;
    --keep) keep=$2 ;;
    --wait) wait_s=$2 ;;
    --root) root=$(realpath -m "$2") ;;
  esac
  shift 2
done
[[ $keep =~ ^[1-9][0-9]*$ ]] || fail 2 "--keep $keep: at least one release stays"
[[ $wait_s =~ ^[1-9][0-9]*$ ]] || fail 2 "--wait $wait_s is no number of seconds"
if [ -z "$root" ] && [ "$(id -u)" != 0 ]; then fail 2 "only root installs a service; put sudo in front, or give --root"; fi

top=$root/opt/session-mgmt
releases=$top/releases
etc=$root/etc/session-mgmt-mcp
units=$root/etc/systemd/system
started=("$SERVICE" session-mgmt-mcp-backup.timer session-mgmt-mcp-verify.timer)

ctl() { # systemctl, where there is one
  if [ -n "$SYSTEMCTL" ]; then "$SYSTEMCTL" "$@"; fi
}

release_of() { # link: the name of the release it leads to, or nothing
  if [ -L "$top/$1" ]; then basename "$(readlink "$top/$1")"; fi
}

point() { # link, release: in one step, whoever looks meanwhile finds one or the other
  ln -sfn "releases/$2" "$top/.$1.new" &&
    mv -T "$top/.$1.new" "$top/$1"
}

make_user() {
  if [ -n "$root" ] || id -u session-mgmt >/dev/null 2>&1; then return 0; fi
  useradd --system --user-group --shell /usr/sbin/nologin --home-dir "$top" --no-create-home session-mgmt
}

own() { # path…: given to the service's user
  if [ -z "$root" ]; then chown session-mgmt:session-mgmt "$@"; fi
}

make_folders() {
  local folder
  mkdir -p "$releases" "$etc" "$units"
  for folder in data logs backups; do
    if [ -d "$top/$folder" ]; then continue; fi
    mkdir -m 0700 "$top/$folder"
    own "$top/$folder"
  done
}

make_settings() { # only where there are none: they are the administrator's
  local name
  for name in service.env deploy.env; do
    if [ ! -e "$etc/$name" ]; then install -m 0600 "$here/$name" "$etc/$name"; fi
  done
}

check_python() {
  "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    fail 1 "$python is not Python 3.11 or later with venv; install python3-venv, or name another with --python"
}

pip_options() { # sets PIP
  PIP=(--quiet --disable-pip-version-check)
  if [ -n "$wheels" ]; then PIP+=(--no-index --find-links "$(realpath "$wheels")"); fi
}

build_wheel() { # folder: prints the wheel's path
  local found
  if [[ $source == *.whl ]]; then
    [ -f "$source" ] || fail 2 "$source is not there"
    realpath "$source"
    return
  fi
  [ -f "$source/pyproject.toml" ] || fail 2 "$source is neither a wheel nor a clone of the repository"
  "$python" -m venv "$1/build"
  "$1/build/bin/pip" wheel "${PIP[@]}" --no-deps --wheel-dir "$1" "$(realpath "$source")" >&2
  found=("$1"/session_mgmt_mcp-*.whl)
  echo "${found[0]}"
}

build_release() { # sets RELEASE: version and digest of the wheel; builds it where it is not whole yet
  local scratch wheel version folder
  scratch=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf '$scratch'" EXIT
  pip_options
  wheel=$(build_wheel "$scratch")
  version=$(basename "$wheel") version=${version#*-} version=${version%%-*}
  RELEASE=$version-$({ cat "$wheel" "$here"/* "$here"/../scripts/* "$here"/../../constraints.txt; echo "$extras"; } | sha256sum | cut -c1-8)
  folder=$releases/$RELEASE
  if [ -e "$folder/.complete" ]; then
    say "$RELEASE is there already"
    return
  fi
  rm -rf "$folder"
  mkdir -p "$folder/deploy"
  "$python" -m venv "$folder/venv"
  "$folder/venv/bin/pip" install "${PIP[@]}" -c "$here/../../constraints.txt" "$wheel${extras:+[$extras]}"
  cp -r "$here" "$here/../scripts" "$folder/deploy/"
  cp "$here/../README.md" "$folder/deploy/"
  cp "$here/../../constraints.txt" "$folder/" # so that a release's own installer installs others
  chmod -R go=u-w "$folder/deploy" "$folder/constraints.txt" # a clone may be root's alone
  "$folder/venv/bin/session-mgmt-mcp" --version >/dev/null
  touch "$folder/.complete"
  say "built $RELEASE"
}

place_units() { # release: its units, and systemd told of them
  local unit changed=''
  for unit in "$releases/$1"/deploy/systemd/*.{service,socket,timer}; do
    if [[ $unit == *.socket ]] && ! cmp -s "$unit" "$units/$(basename "$unit")"; then changed=1; fi
    install -m 0644 "$unit" "$units/" || return 1
  done
  ctl daemon-reload || return 1
  if [ "$changed" ]; then ctl stop "$SERVICE" "$SOCKET"; fi # the only change for which no connection can wait
}

start() { # release: switch to it; fails where it does not become ready
  # Nothing ends by itself here: the caller asks whether this failed, and bash's -e is off then.
  point current "$1" && place_units "$1" || return 1
  ctl enable --quiet "$SOCKET" "${started[@]}" || return 1
  ctl start "$SOCKET" || true # the service's start asks for it again, and fails without it
  ctl reset-failed "$SERVICE" 2>/dev/null || true # unknown yet, where it was never loaded
  if [ -z "$SYSTEMCTL" ]; then return 0; fi
  ctl start "${started[@]:1}" || return 1
  timeout "$wait_s" "$SYSTEMCTL" restart "$SERVICE" || return 1
  # shellcheck disable=SC2034 # wait_ready asks with it
  PYTHON=$top/current/venv/bin/python
  wait_ready "${HEALTH_URL:-http://127.0.0.1:8000}" "$wait_s"
}

tell_why() { # nothing here may end the installer: the release before is still to be put back
  ctl --no-pager --lines=0 status "$SOCKET" "$SERVICE" >&2 || true
  if [ -n "$SYSTEMCTL" ] && command -v journalctl >/dev/null; then
    journalctl --sync >&2 || true # what it said last is on its way
    journalctl --no-pager --quiet --output=cat --lines=30 --unit="$SOCKET" --unit="$SERVICE" >&2 || true
  fi
  say "its log may say more: $top/logs" >&2
}

switch_to() { # release: with the one before put back where it fails
  local before older
  before=$(release_of current) older=$(release_of previous)
  # Before the switch, so that --rollback leads back where this is interrupted.
  if [ -n "$before" ] && [ "$before" != "$1" ]; then point previous "$before"; fi
  if start "$1"; then
    say "$1 is current"
    return
  fi
  tell_why
  if [ -n "$older" ]; then point previous "$older"; else rm -f "$top/previous"; fi
  if [ -z "$before" ] || [ "$before" = "$1" ]; then
    ctl stop "$SERVICE" "$SOCKET" || true
    if [ -z "$before" ]; then rm -f "$top/current"; fi
    fail 1 "$1 did not become ready within $wait_s s; there is no release before to go back to: it was stopped"
  fi
  if start "$before"; then fail 1 "$1 did not become ready within $wait_s s; went back to $before, which is"; fi
  tell_why
  fail 1 "$1 did not become ready within $wait_s s, and neither did $before, which is current again"
}

list_releases() { # the newest first
  local folder
  [ -d "$releases" ] || return 0
  # names are versions and digits: nothing in them needs quoting
  # shellcheck disable=SC2045
  for folder in $(ls -t "$releases"); do
    if [ -e "$releases/$folder/.complete" ]; then echo "$folder"; fi
  done
}

drop_old() {
  local name folder kept=0
  for folder in "$releases"/*/; do # what an interrupted installation left
    if [ ! -e "$folder/.complete" ]; then rm -rf "$folder"; fi
  done
  for name in $(list_releases); do
    kept=$((kept + 1))
    if [ "$kept" -le "$keep" ] || [ "$name" = "$(release_of current)" ] || [ "$name" = "$(release_of previous)" ]; then
      continue
    fi
    rm -rf "${releases:?}/$name"
    say "removed $name"
  done
}

uninstall() {
  local unit
  ctl stop 'session-mgmt-mcp*' || true # a backup under way too
  for unit in "$SOCKET" "${started[@]}"; do
    ctl disable --quiet "$unit" 2>/dev/null || true # it may never have been there
  done
  for unit in "$here"/*.{service,socket,timer}; do rm -f "$units/$(basename "$unit")"; done
  ctl daemon-reload
  rm -rf "$top/current" "$top/previous" "$releases"
  say "removed units and releases; $top/data, logs, backups and $etc stay, as does the user session-mgmt"
}

case $action in
  list)
    for name in $(list_releases); do
      mark=''
      if [ "$name" = "$(release_of current)" ]; then mark=' current'; fi
      if [ "$name" = "$(release_of previous)" ]; then mark=' previous'; fi
      say "$name$mark"
    done
    exit 0
    ;;
esac
mkdir -p "$top"
exec 9<"$top"
flock -n 9 || fail 1 "another install.sh, or a restore.sh, is at work on $top"
read_env "$etc/deploy.env"
case $action in
  install)
    check_python
    make_user
    make_folders
    make_settings
    read_env "$etc/deploy.env"
    build_release
    switch_to "$RELEASE"
    drop_old
    ;;
  rollback)
    before=$(release_of previous)
    [ -n "$before" ] || fail 1 "there is no release before"
    switch_to "$before"
    ;;
  uninstall) uninstall ;;
esac
