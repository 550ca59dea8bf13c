
# Names of pods and containers.
_podlet_names() {
    local -aU names
    names=(${(f)"$(podlet ps --all --quiet 2>/dev/null)"})
    names+=(${names%%/*})
    compadd "$@" -a names
}
