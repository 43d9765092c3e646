# psql through the session endpoint. URI: the service; PSQL: the program; MAJOR:
# its version. Names what works.
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

query() { "$PSQL" -XAtq -v ON_ERROR_STOP=1 "$1" -c "$2"; }

same() {
    if [ "$1" != "$2" ]; then
        echo "expected $1, saw $2" >&2
        exit 1
    fi
}

# fails URI QUERY TEXT: psql fails, and says this.
fails() {
    if query "$1" "$2" >"$work/out" 2>&1; then
        echo "did not fail: $2" >&2
        exit 1
    fi
    grep -q "$3" "$work/out" || {
        cat "$work/out" >&2
        exit 1
    }
}

# The URI with another value of one parameter.
with() { echo "$URI" | sed "s|\([?&]$1=\)[^&]*|\1$2|"; }

encrypted() { query "$1" '\conninfo' | grep -c TLSv1.3 || true; }

# Where there is a ticket, gssencmode=prefer, the default, asks for GSSAPI
# encryption before anything else.
python3 "$(dirname "$0")/kerberos_ticket.py" "$work/ticket"
printf '[libdefaults]\ndefault_realm = EXAMPLE.COM\n' >"$work/krb5.conf"
export KRB5CCNAME="FILE:$work/ticket" KRB5_CONFIG="$work/krb5.conf"
fails "$URI&gssencmode=require" 'SELECT 1' "server doesn't support GSSAPI encryption"
for gss in disable prefer; do
    same 0 "$(encrypted "$(with sslmode disable)&gssencmode=$gss")"
    same 0 "$(encrypted "$(with sslmode allow)&gssencmode=$gss")"
    for mode in prefer require verify-ca verify-full; do
        same 1 "$(encrypted "$(with sslmode $mode)&gssencmode=$gss")"
    done
done
fails "$(with sslmode verify-full | sed 's/@localhost:/@127.0.0.2:/')" 'SELECT 1' .
echo "every sslmode, with and without a ticket for GSSAPI"

same 42 "$(query "$URI&channel_binding=require" 'SELECT 42')"
same 42 "$(query "$URI&channel_binding=disable" 'SELECT 42')"
echo "channel binding"

service=$(echo "$URI" | sed 's/.*service%3D//')
by_name=$(echo "$URI" | sed "s/@localhost:/@$service.db.localhost:/; s/&options=.*//")
same 42 "$(query "$by_name&hostaddr=127.0.0.1" 'SELECT 42')"
echo "the server's name names the service"

same 7MB "$(query "$URI%20-c%20work_mem%3D7MB" 'SHOW work_mem')"
same 'German, YMD' "$(query "$URI%20-cdatestyle%3DGerman,%5C%20YMD" 'SHOW datestyle')"
echo "options beside the service"

seq 1 100000 >"$work/numbers"
query "$URI" 'CREATE TABLE numbers (n int)'
query "$URI" "\\copy numbers FROM '$work/numbers'"
query "$URI" "\\copy (SELECT n FROM numbers ORDER BY n) TO '$work/back'"
cmp "$work/numbers" "$work/back"
echo "copy in and out"

"$PSQL" -XAtq -v FETCH_COUNT=1000 "$URI" -c 'SELECT n FROM numbers ORDER BY n' >"$work/back"
cmp "$work/numbers" "$work/back"
echo "a result in portions"

oid=$(query "$URI" "\\lo_import '$work/numbers'" | sed 's/lo_import //')
[ -n "$oid" ] || oid=$(query "$URI" 'SELECT oid FROM pg_largeobject_metadata')
query "$URI" "\\lo_export $oid '$work/back'"
cmp "$work/numbers" "$work/back"
echo "large objects"

printf '%s\n' 'LISTEN news;' "NOTIFY news, 'hello';" "DO \$\$ BEGIN RAISE NOTICE 'look'; END \$\$;" |
    "$PSQL" -XAtq "$URI" >"$work/out" 2>&1
grep -q 'Asynchronous notification "news" with payload "hello" received' "$work/out"
grep -q 'NOTICE:  look' "$work/out"
echo "notifications and notices"

# A background process of a shell ignores SIGINT, unless somebody says otherwise.
cat >"$work/cancel.py" <<'PYTHON'
import os, signal, subprocess, sys, time

signal.signal(signal.SIGINT, signal.default_int_handler)
psql = subprocess.Popen(
    [os.environ["PSQL"], "-XAtq", os.environ["URI"], "-c", "SELECT pg_sleep(30)"],
    stderr=subprocess.PIPE,
    text=True,
)
time.sleep(0.5)
psql.send_signal(signal.SIGINT)
_, message = psql.communicate(timeout=10)
assert "canceling statement due to user request" in message, message
PYTHON
python3 "$work/cancel.py"
echo "a cancelled query"

fails "$URI" 'SELECT 1/0' 'ERROR:  division by zero'
fails "$URI%20-c%20no_such_setting%3D1" 'SELECT 1' \
    'FATAL:  unrecognized configuration parameter "no_such_setting"'
missing=$(echo "$URI" | sed 's|/[a-z0-9_]*?|/missing?|')
fails "$missing" 'SELECT 1' 'FATAL:  database "missing" does not exist'
wrong=$(echo "$URI" | sed 's|app:[^@]*@|app:wrong@|')
fails "$wrong" 'SELECT 1' 'FATAL:  password authentication failed for user "app"'
echo "the server's own refusals"

if [ "$MAJOR" -ge 17 ]; then
    direct="$URI&sslnegotiation=direct&channel_binding=require"
    query "$direct" '\conninfo' | grep -q 'ALPN|postgresql' || [ "$MAJOR" = 17 ]
    same 42 "$(query "$direct" 'SELECT 42')"
    echo "direct TLS"
fi
if [ "$MAJOR" -ge 18 ]; then
    query "$URI&min_protocol_version=3.2" '\conninfo' | grep -q 'Protocol Version|3.2'
    URI="$URI&min_protocol_version=3.2" python3 "$work/cancel.py"
    echo "protocol 3.2"
fi
