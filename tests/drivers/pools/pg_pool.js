// node-postgres's pool, with eight requests at a time, for as long as its
// standard input stays open.

const { Pool } = require("pg");

const pool = new Pool({ connectionString: process.env.URI, max: 8, idleTimeoutMillis: 0 });
// An idle client that is ended; without a listener it would end the process.
pool.on("error", () => {});
const failed = {};
let ok = 0;
let over = false;

async function request() {
  try {
    await pool.query("INSERT INTO requests VALUES ($1)", [ok]);
    ok += 1;
    return true;
  } catch (error) {
    const code = error.code ?? error.message;
    failed[code] = (failed[code] ?? 0) + 1;
    return false;
  }
}

async function requests() {
  while (!over) {
    await request();
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function main() {
  process.stdin.on("end", () => (over = true)).resume();
  console.log("ready");
  await Promise.all(Array.from({ length: 8 }, requests));
  const last = await Promise.all(Array.from({ length: 8 }, request));
  console.log(JSON.stringify({ ok, failed, recovered: last.every(Boolean) }));
  await pool.end();
}

main();
