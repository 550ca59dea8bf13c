
# Names of pods, containers and networks where a command takes them: what is above
# knows of options and subcommands alone.
_podlet_with_names() {
    local word wanted= names=() path=${COMP_WORDS[1]-} first=2
    case $path in
    @GROUPS@) path+=" ${COMP_WORDS[2]-}" first=3 ;;
    esac
    if ((COMP_CWORD >= first)); then
        case $path in
        @PODS@) wanted='ps --all' ;;
        'network inspect' | 'network rm') wanted='network ls' ;;
        esac
    fi
    # The word behind an option may be the option's.
    if [[ -n $wanted && $2 != -* ]]; then
        _podlet "$1" "" "$3"
        if [[ " ${COMPREPLY[*]} " == *' --help '* ]]; then
            for word in $(podlet $wanted --quiet 2>/dev/null); do
                names+=("$word" "${word%%/*}")
            done
            COMPREPLY=($(compgen -W "${names[*]}" -- "$2"))
            return
        fi
    fi
    _podlet "$@"
}
complete -F _podlet_with_names -o bashdefault -o default podlet
