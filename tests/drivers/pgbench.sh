# pgbench through the session endpoint. URI: the service; PGBENCH, PSQL: the
# programs. Names what works.
set -eu

query() { "$PSQL" -XAtqc "$1" "$URI"; }

# bench TRANSACTIONS OPTIONS: as many transactions are done, and none fails.
bench() {
    expected=$1
    shift
    output=$("$PGBENCH" -n "$@" "$URI" 2>&1)
    for line in "processed: $expected/$expected" 'failed transactions: 0 '; do
        echo "$output" | grep -q "$line" || {
            echo "$output" >&2
            exit 1
        }
    done
}

"$PGBENCH" -i -q "$URI" 2>/dev/null
[ "$(query 'SELECT count(*) FROM pgbench_accounts')" = 100000 ]
echo "initialised"

for protocol in simple extended prepared; do
    bench 400 -M $protocol -c 4 -j 2 -t 100
    echo $protocol
done
bench 4000 -S -M prepared -c 4 -j 2 -t 1000
echo "select only"
bench 80 -S -C -c 2 -t 40
echo "reconnecting"

[ "$(query 'SELECT count(*) FROM pgbench_history')" = 1200 ]
balances='SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)'
[ "$(query "$balances")" = t ]
