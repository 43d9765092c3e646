# Outlives the process that started it just long enough to clean up after it.
#
# Its owner holds the other end of stdin and names on it, one a line, the
# process to look after ("" for none). The end of stdin means that the owner has
# gone, for whatever reason: then the process is stopped and the directory
# removed.
#
# $1: the directory to remove; empty: none.

directory=$1
watched=
while read -r line; do watched=$line; done

# A process that has ended stays in the table as a zombie where nobody reaps it.
running() {
    [ -n "$watched" ] &&
        read -r _ _ state _ 2>/dev/null <"/proc/$watched/stat" &&
        [ "$state" != Z ]
}

# stop SIGNAL: true as soon as the process has ended, false after 5 s.
stop() {
    kill -s "$1" "$watched" 2>/dev/null
    tries=0
    while running; do
        [ "$tries" -lt 250 ] || return 1
        tries=$((tries + 1))
        sleep 0.02
    done
}

if running; then
    kill -s CONT "$watched"
    # PostgreSQL's fast shutdown, its immediate one (which kills what is left
    # of its children after 5 s), and the end of patience.
    stop INT || stop QUIT || { sleep 1; stop KILL; }
fi

if [ -n "$directory" ]; then
    # A child that was not yet gone may have made a file meanwhile.
    rm -rf -- "$directory" || { sleep 1; rm -rf -- "$directory"; }
fi
