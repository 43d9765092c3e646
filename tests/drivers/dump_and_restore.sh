# pg_dump and pg_restore between databases of one service. URI: the database to
# dump; TARGET, PARALLEL: empty ones; BIN: the programs. Names what works.
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

query() { "$BIN/psql" -XAtq -v ON_ERROR_STOP=1 -c "$2" "$1"; }

query "$URI" "
    CREATE TABLE things (id bigserial PRIMARY KEY, name text NOT NULL, data bytea, at timestamptz);
    CREATE INDEX things_by_name ON things (name);
    CREATE VIEW named AS SELECT id, name FROM things;
    COMMENT ON TABLE things IS 'it''s a comment';
    INSERT INTO things (name, data, at)
        SELECT 'thing ' || n, sha512(n::text::bytea), '2024-02-29'::timestamptz + n * interval '1 s'
        FROM generate_series(1, 20000) n;
    SELECT lo_from_bytea(4711, decode(repeat('00ff5c0a', 500000), 'hex'));
" >/dev/null

# What both databases must agree on.
contents="
    SELECT md5(string_agg(t::text, E'\n' ORDER BY id)) FROM things t;
    SELECT count(*), max(name) FROM named;
    SELECT indexdef FROM pg_indexes WHERE tablename = 'things' ORDER BY 1;
    SELECT obj_description('things'::regclass), last_value FROM things_id_seq;
    SELECT oid, md5(lo_get(oid)) FROM pg_largeobject_metadata;
"
contents() { for statement in "$contents"; do query "$1" "$statement"; done; }

same_as_the_source() {
    contents "$URI" >"$work/source"
    contents "$1" >"$work/target"
    [ "$(wc -l <"$work/source")" = 6 ]
    diff "$work/source" "$work/target" >&2
}

"$BIN/pg_dump" -Fc "$URI" | "$BIN/pg_restore" --exit-on-error -d "$TARGET"
same_as_the_source "$TARGET"
echo "piped"

"$BIN/pg_dump" -Fd -j 2 -f "$work/dump" "$URI"
"$BIN/pg_restore" --exit-on-error -j 2 -d "$PARALLEL" "$work/dump"
same_as_the_source "$PARALLEL"
echo "in parallel"
