# Finds the installed session-mgmt-mcp and starts what is asked of it. POSIX sh.
#
#   hooks: sourced by the client's own shell, so that no second shell has to start; the event is on stdin
#   server: `sh launch.sh server`
#
# An installation is three lines: the interpreter, the package's folder, the data folder (empty: the default).
# `session-mgmt-mcp setup` records it in the plugin's data folder, which outlives updates of the plugin. Without a record,
# or where what it names is gone, the program on PATH is asked, and its answer recorded.

sm_python= sm_package= sm_data=
sm_record=${CLAUDE_PLUGIN_DATA:+$CLAUDE_PLUGIN_DATA/installation}

sm_read() { { IFS= read -r sm_python && IFS= read -r sm_package && IFS= read -r sm_data; } || :; }

sm_works() { [ -x "$sm_python" ] && [ -r "$sm_package/adapters/claude_code/hook.py" ]; }

sm_ask() {
    sm_program=$(command -v session-mgmt-mcp) || return 0
    sm_answer=$("$sm_program" setup --print-installation </dev/null 2>/dev/null) || return 0
    sm_read <<SM_END
$sm_answer
SM_END
    sm_works && [ -n "$sm_record" ] || return 0
    mkdir -p "$CLAUDE_PLUGIN_DATA" && printf '%s\n' "$sm_answer" >"$sm_record.$$" && mv -f "$sm_record.$$" "$sm_record"
}

if [ -n "$sm_record" ] && [ -r "$sm_record" ]; then
    sm_read <"$sm_record"
fi
sm_works || sm_ask 2>/dev/null || :

if [ "${1-}" = server ]; then
    if sm_works; then
        if [ -n "$sm_data" ]; then
            export SESSION_MGMT_DATA_DIR="$sm_data"
        fi
        exec "$sm_python" -P -m session_mgmt_mcp.server
    fi
    echo "session-mgmt: the program session-mgmt-mcp is not installed, or not on PATH." >&2
    echo "Install it (pip install . in a clone of its repository), then run: session-mgmt-mcp setup" >&2
    exit 1
elif sm_works; then
    if [ -n "$sm_data" ]; then
        "$sm_python" -I -S "$sm_package/adapters/claude_code/hook.py" --data-dir "$sm_data"
    else
        "$sm_python" -I -S "$sm_package/adapters/claude_code/hook.py"
    fi
fi
