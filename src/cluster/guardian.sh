# Outlives the process that started it just long enough to clean up after it.
#
# Its owner holds the other end of stdin and names on it, one a line, the
# process to look after ("" for none). The end of stdin means that the owner has
# gone, for whatever reason: then the process is stopped and the directory
# removed.
#
# $1: the directory to remove; empty: none.
# $2: the signal that the process ends by in an orderly way.
# $3: how many seconds it has for that.
# $4: a data directory whose postmaster the process starts; empty: none.

directory=$1
gently=$2
patience=$3
data=$4
watched=
while read -r line; do watched=$line; done

# A process that has ended stays in the table as a zombie where nobody reaps it.
running() {
    [ -n "$watched" ] &&
        read -r _ _ state _ 2>/dev/null <"/proc/$watched/stat" &&
        [ "$state" != Z ]
}

# stop SIGNAL [SECONDS]: true as soon as the process has ended, false after 5 s.
stop() {
    kill -s "$1" "$watched" 2>/dev/null
    tries=$((${2:-5} * 50))
    while running; do
        [ "$tries" -gt 0 ] || return 1
        tries=$((tries - 1))
        sleep 0.02
    done
}

# PostgreSQL's fast shutdown, its immediate one (which kills what is left of its
# children after 5 s), and the end of patience.
end() {
    kill -s CONT "$watched" 2>/dev/null
    stop "$@" || stop QUIT || { sleep 1; stop KILL; }
}

if running; then end "$gently" "$patience"; fi

# The postmaster is no child of the process, and may have been left alone; a
# process that its file names and that works elsewhere is another one.
if [ -n "$data" ] && { read -r watched <"$data/postmaster.pid"; } 2>/dev/null &&
    [ "/proc/$watched/cwd" -ef "$data" ] && running; then
    end INT
fi

if [ -n "$directory" ]; then
    # A child that was not yet gone may have made a file meanwhile.
    rm -rf -- "$directory" || { sleep 1; rm -rf -- "$directory"; }
fi
