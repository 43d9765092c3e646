// node-postgres through the session endpoint.

const assert = require("node:assert/strict");
const { once } = require("node:events");
const { Client, Pool } = require("pg");

const uri = process.env.URI;

async function connected(use, options = {}) {
  const client = new Client({ connectionString: uri, ...options });
  await client.connect();
  try {
    await use(client);
  } finally {
    await client.end();
  }
}

const checks = {
  "channel binding and direct TLS": async () => {
    for (const sslnegotiation of ["postgres", "direct"]) {
      const connectionString = `${uri}&sslnegotiation=${sslnegotiation}`;
      await connected(async (client) => {
        assert.equal(client.saslSession, null);
        assert.ok(client.connection.stream.encrypted);
        const { rows } = await client.query("SELECT current_user AS name");
        assert.deepEqual(rows, [{ name: "app" }]);
      }, { connectionString, enableChannelBinding: true });
    }
  },

  "parameters": () => connected(async (client) => {
    const values = [1, "ä'\"", null, [1, 2], { a: 1 }, Buffer.from([0, 255])];
    const { rows } = await client.query({
      text: "SELECT $1::int, $2::text, $3::text, $4::int[], $5::jsonb, $6::bytea",
      values,
      rowMode: "array",
    });
    assert.deepEqual(rows, [values]);
    const queries = Array.from({ length: 200 }, (_, n) => client.query("SELECT $1::int AS n", [n]));
    const answers = await Promise.all(queries);
    assert.deepEqual(answers.map((answer) => answer.rows[0].n), [...Array(200).keys()]);
  }),

  "a named statement": () => connected(async (client) => {
    for (let n = 0; n < 20; n++) {
      const { rows } = await client.query({ name: "twice", text: "SELECT $1::int * 2 AS n", values: [n] });
      assert.equal(rows[0].n, 2 * n);
    }
    const { rows } = await client.query("SELECT name FROM pg_prepared_statements");
    assert.deepEqual(rows, [{ name: "twice" }]);
  }),

  "a transaction": () => connected(async (client) => {
    await client.query("BEGIN; CREATE TABLE t (n int); INSERT INTO t VALUES (1), (2)");
    assert.equal((await client.query("SELECT * FROM t")).rowCount, 2);
    await client.query("ROLLBACK");
    assert.equal((await client.query("SELECT to_regclass('t') AS t")).rows[0].t, null);
  }),

  "an error": () => connected(async (client) => {
    await assert.rejects(client.query("SELECT 1 +* 2"), { code: "42883", position: "10" });
    await assert.rejects(client.query("SELECT $1::int / 0", [1]), { code: "22012" });
    assert.equal((await client.query("SELECT 1 AS n")).rows[0].n, 1);
  }),

  "notifications and notices": () => connected(async (client) => {
    await client.query("LISTEN news");
    const heard = once(client, "notification");
    const noticed = once(client, "notice");
    await client.query("NOTIFY news, 'hello'");
    await client.query("DO $$ BEGIN RAISE NOTICE 'look'; END $$");
    const [notification] = await heard;
    assert.equal(notification.payload, "hello");
    assert.equal(notification.processId, client.processID);
    assert.equal((await noticed)[0].message, "look");
  }),

  "a pool": async () => {
    const pool = new Pool({ connectionString: uri, max: 4 });
    const queries = Array.from({ length: 100 }, (_, n) => pool.query("SELECT $1::int AS n", [n]));
    const answers = await Promise.all(queries);
    assert.deepEqual(answers.map((answer) => answer.rows[0].n), [...Array(100).keys()]);
    await pool.end();
  },

  "a large parameter": () => connected(async (client) => {
    const value = Buffer.alloc(10_000_000, "0123456789abcdef");
    const { rows } = await client.query("SELECT $1::bytea AS same", [value]);
    assert.ok(rows[0].same.equals(value));
  }),

  "cancel": () => connected(async (client) => {
    const sleeping = client.query("SELECT pg_sleep(30)");
    const rejected = assert.rejects(sleeping, { code: "57014" });
    await new Promise((resolve) => setTimeout(resolve, 200));
    await connected((other) => other.query("SELECT pg_cancel_backend($1)", [client.processID]));
    await rejected;
    assert.equal((await client.query("SELECT 1 AS n")).rows[0].n, 1);
  }),
};

(async () => {
  for (const [name, check] of Object.entries(checks)) {
    await check();
    console.log(name);
  }
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
